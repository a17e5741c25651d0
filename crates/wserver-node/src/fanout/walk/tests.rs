//! Who is shown what by a walk, whatever joins it meanwhile.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::lane::RunBody;

fn run(start: u64) -> lane::Run {
    lane::Run {
        event: EventName::parse("e", 10).unwrap(),
        start,
        options: PushOptions::default(),
        bodies: [Some(RunBody::Shared(Bytes::from_static(b"frame"))), None, None],
        bytes: 5,
        count: 1,
        accepted: Instant::now(),
    }
}

proptest! {
    /// Whenever segments join the round, and however many slots there are meanwhile, each slot
    /// sees each segment once and in order, if the slot exists from the beginning of the
    /// segment to its end.
    #[test]
    fn each_slot_is_shown_each_segment_once_and_in_order(
        steps in vec((proptest::option::weighted(0.3, 1_usize..4), 0_usize..100), 1..200),
    ) {
        let mut round = Round::default();
        // By segment: the slots that saw it, and the minimum and maximum number of slots
        // meanwhile.
        let mut shown: Vec<(HashMap<usize, u32>, usize, usize)> = Vec::new();
        let mut newest: HashMap<usize, usize> = HashMap::new();
        let mut done = 0;
        // At the end nothing joins, and everything comes round.
        let rest = std::iter::repeat_n((None, 50), 40);
        for (joining, slots) in steps.into_iter().chain(rest) {
            if let Some(parts) = joining
                && round.parts.len() + parts <= 64
            {
                let runs = (0..parts).map(|_| run(shown.len() as u64)).collect();
                round.add(runs);
                shown.push((HashMap::new(), usize::MAX, 0));
            }
            let under_way = shown.len() - round.segments.len()..shown.len();
            let end = round.slice_end(slots);
            for segment in under_way.clone() {
                let (shown, fewest, most) = &mut shown[segment];
                (*fewest, *most) = ((*fewest).min(slots), (*most).max(slots));
                for slot in round.slot.min(slots)..end {
                    *shown.entry(slot).or_default() += 1;
                }
            }
            for slot in round.slot.min(slots)..end {
                for segment in under_way.clone() {
                    if let Some(before) = newest.insert(slot, segment) {
                        prop_assert!(before < segment, "slot {slot}: {segment} after {before}");
                    }
                }
            }
            for part in round.advance(end, slots) {
                prop_assert!(part.start >= done, "segments end in their order");
                done = part.start;
            }
            let bytes: usize = round.parts.iter().map(|part| part.bytes).sum();
            prop_assert_eq!(round.bytes, bytes);
        }
        prop_assert!(round.segments.is_empty() && round.parts.is_empty());
        for (shown, fewest, most) in shown {
            for slot in 0..most {
                let times = shown.get(&slot).copied().unwrap_or_default();
                prop_assert!(times == 1 || (times == 0 && slot >= fewest), "slot {slot}: {times}");
            }
        }
    }
}
