//! A `gap` in the place of a message that is too large for a frame.

use super::*;

#[test]
fn a_gap_stands_for_one_message_that_is_too_large() {
    for (channel, to) in MINE.to().into_iter().enumerate() {
        let mut case = Case::new();
        case.store_one(to, true);
        case.store(to);
        case.told_too_large(1, channel);
        case.read_after(to, 2, 1);
        case.live(2);
        let verdict = case.is_good();
        assert_eq!((verdict.too_large, verdict.gap_frames), (1, 0));
    }
    // Without it, the message is lost.
    let mut case = Case::new();
    case.store_one(ME, true);
    case.live(1);
    assert_eq!(case.verdict().lost, 1);
    // It came whole.
    let mut case = Case::new();
    case.store_one(ME, true);
    case.read(ME, 1);
    assert_eq!(case.verdict().complaints.len(), 1);
}

#[test]
fn too_large_is_false_of_any_other_message() {
    for (to, channel) in [(ME, 0), (ME, BROADCAST), (ME, TOPIC), (OTHER, 0)] {
        let mut case = Case::new();
        // It is large where the channel is wrong.
        case.store_one(to, (to, channel) != (ME, 0));
        case.told_too_large(1, channel);
        assert_eq!(case.verdict().false_gaps, 1, "{to:?} {channel}");
    }
}
