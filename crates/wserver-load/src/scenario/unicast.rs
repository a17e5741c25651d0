//! Every push to one connection, and to another one each time.

use anyhow::{Result, ensure};

use crate::drive::{Audience, Pace, Plan, drive};
use crate::engine::Engine;
use crate::report::Report;
use crate::scenario::{begin, check_books};
use crate::settings::{Common, Unicast};

pub(super) fn run(common: &Common, unicast: &Unicast) -> Result<Report> {
    let (mut report, process) = begin("unicast", common)?;
    report.setting("connections", unicast.connections);
    report.setting("pushers", unicast.pushers);
    let pace = Pace::of(unicast.rate);
    report.setting("pace", pace);
    let mut engine = Engine::new(common, 1, 1)?;
    engine.open_all(0..unicast.connections)?;
    let mut probed = 0;
    for user in 0..unicast.connections {
        probed += engine.probe_until(user, 1)?;
    }
    engine.drain(probed)?;
    let plan = Plan {
        pace,
        audience: Audience::Each(unicast.connections),
        pushers: usize::from(unicast.pushers),
        events: 1,
        window: unicast.window,
        sample_every: 1,
    };
    let course = drive(&mut engine, &process, plan, |_, _| Ok(()))?;
    engine.drain(course.counted + probed)?;
    for (listener, &sent) in course.sequences.iter().enumerate() {
        ensure!(engine.listeners[listener].user as usize == listener, "one listener for each user");
        engine.ledger.close(listener, 0, sent);
    }
    course.tell(&engine, &process, &mut report);
    report.check(
        "frames, and the sum of the numbers answered",
        engine.ledger.received(),
        course.counted + probed,
    );
    check_books(&engine, &course, &mut report);
    report.check("connections cut off", engine.cut_off() as u64, 0);
    Ok(report)
}
