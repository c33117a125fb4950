use super::*;

const US: &str = "us";
const OTHER: &str = "other";

/// Lets seconds pass in which both gateways are heard, or only this one.
fn passes(state: &mut State, from: Instant, seconds: u64, both: bool) -> Vec<Arc<str>> {
    let mut vanished = Vec::new();
    for second in 0..seconds {
        let now = from + Duration::from_secs(second);
        state.heard(US, false, true, now);
        if both {
            state.heard(OTHER, false, false, now);
        }
        vanished.extend(state.tick(now));
    }
    vanished
}

#[test]
fn it_knows_all_gateways_after_four_seconds() {
    let (mut state, start) = (State::default(), Instant::now());
    assert!(!state.known(start).all);
    passes(&mut state, start, 4, true);
    assert!(!state.known(start + Duration::from_secs(3)).all);
    let known = state.known(start + Duration::from_secs(4));
    assert!(known.all && known.names.len() == 2, "{known:?}");
    // It hears nobody any more, itself included.
    assert!(!state.known(start + Duration::from_secs(9)).all);
    state.reconnected();
    assert!(!state.known(start + Duration::from_secs(4)).all);
}

#[test]
fn silence_without_a_goodbye_is_told_once() {
    let (mut state, start) = (State::default(), Instant::now());
    assert!(passes(&mut state, start, 3, true).is_empty());
    let last = start + Duration::from_secs(2);
    let silence = |seconds| last + Duration::from_secs(seconds);
    assert!(passes(&mut state, silence(1), 8, false).is_empty());
    let vanished = passes(&mut state, silence(9), 1, false);
    assert_eq!(vanished, [Arc::from(OTHER)]);
    // It still counts among those whose answers are waited for.
    assert_eq!(state.known(silence(9)).names.len(), 2);
    assert!(passes(&mut state, silence(10), 5, false).is_empty());
    assert_eq!(state.known(silence(10)).names, [Arc::from(US)]);
}

#[test]
fn a_goodbye_is_no_loss() {
    let (mut state, start) = (State::default(), Instant::now());
    passes(&mut state, start, 3, true);
    state.heard(OTHER, true, false, start + Duration::from_secs(3));
    let later = start + Duration::from_secs(3);
    assert!(passes(&mut state, later, 20, false).is_empty());
}

/// A call that waits for a gateway goes on waiting when that gateway is forgotten meanwhile.
#[test]
fn silence_is_no_goodbye() {
    let (mut state, start) = (State::default(), Instant::now());
    passes(&mut state, start, 3, true);
    let later = start + Duration::from_secs(3);
    passes(&mut state, later, 12, false);
    let now = start + Duration::from_secs(15);
    assert_eq!(state.known(now).names, [Arc::from(US)]);
    assert!(!state.has_left(OTHER));
    state.heard(OTHER, true, false, now);
    assert!(state.has_left(OTHER));
    state.heard(OTHER, false, false, now);
    assert!(!state.has_left(OTHER), "it is back");
}

/// Others are not lost because this gateway is deaf, or stood still.
#[test]
fn what_is_missed_here_is_nobodys_loss() {
    let (mut state, start) = (State::default(), Instant::now());
    passes(&mut state, start, 3, true);
    let away = start + Duration::from_secs(60);
    assert!(state.tick(away).is_empty());
    state.reconnected();
    assert!(passes(&mut state, away, 8, false).is_empty());

    let (mut state, start) = (State::default(), Instant::now());
    passes(&mut state, start, 3, true);
    let still = Duration::from_secs(30);
    state.stood_still(still);
    let after = start + Duration::from_secs(3) + still;
    assert!(passes(&mut state, after, 3, false).is_empty());
    assert!(!state.known(after + Duration::from_secs(3)).all);
}

#[test]
fn too_many_gateways_are_not_remembered() {
    let (mut state, start) = (State::default(), Instant::now());
    state.heard(US, false, true, start);
    for number in 1..MAX_GATEWAYS {
        assert!(state.heard(&number.to_string(), false, false, start));
    }
    assert!(!state.heard("one more", false, false, start));
    let later = start + KNOWS;
    state.heard(US, false, true, later);
    assert!(!state.known(later).all);
}
