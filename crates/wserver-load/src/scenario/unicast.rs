//! Every push goes to one user with few connections, and to another user each time.

use anyhow::Result;

use super::account::{begin, check_books};
use crate::drive::{Audience, Pace, Plan, drive};
use crate::engine::Engine;
use crate::report::Report;
use crate::settings::{Common, Unicast};

pub(super) fn run(common: &Common, unicast: &Unicast) -> Result<Report> {
    let (mut report, process) = begin("unicast", common)?;
    report.setting("connections", unicast.connections);
    report.setting("each", unicast.each);
    report.setting("pushers", unicast.pushers);
    let pace = Pace::of(unicast.rate);
    report.setting("pace", pace);
    let mut engine = Engine::new(common, 1, 1)?;
    let users = 0..unicast.connections;
    engine.open_all(users.flat_map(|user| (0..unicast.each).map(move |_| user)))?;
    let mut probed = 0;
    for user in 0..unicast.connections {
        probed += engine.probe_until(user, u64::from(unicast.each))?;
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
    for (number, connection) in engine.connections.iter().enumerate() {
        engine.ledger.close(number, 0, course.sequences[connection.user as usize]);
    }
    course.tell(&engine, &process, &mut report);
    report.check(
        "frames, and the sum of the numbers answered",
        engine.ledger.received(),
        course.counted + probed,
    );
    report.check("lowest number answered", course.count_min, unicast.each.into());
    report.check("highest number answered", course.count_max, unicast.each.into());
    check_books(&engine, &course, &mut report);
    report.check("connections cut off", engine.cut_off() as u64, 0);
    Ok(report)
}
