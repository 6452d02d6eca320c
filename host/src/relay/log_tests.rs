use super::*;

fn entry(seq: i64, subject: &str) -> Pending {
    Pending {
        seq,
        id: format!("id-{seq}"),
        subject: subject.to_owned(),
        headers: String::new(),
        payload: Bytes::new(),
        committed_at: seq * 1_000,
        expires_at: None,
    }
}

fn sent(log: &mut WriterLog, now: Instant) -> Vec<i64> {
    std::iter::from_fn(|| log.send(now).map(|entry| entry.seq)).collect()
}

fn doubtful(log: &mut WriterLog, now: Instant) -> Vec<i64> {
    log.doubtful(now).into_iter().map(|entry| entry.seq).collect()
}

#[test]
fn entries_leave_in_order_and_the_cursor_follows_without_gaps() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 10);
    log.announce(vec![entry(1, "a"), entry(2, "b"), entry(3, "a")]);
    assert_eq!(sent(&mut log, now), [1, 2, 3]);
    log.stored(2, now);
    assert_eq!(log.published(), 0);
    log.stored(1, now);
    assert_eq!(log.published(), 2);
    log.stored(3, now);
    assert_eq!((log.published(), log.backlog()), (3, 0));
}

#[test]
fn a_broken_connection_sends_again_what_was_not_stored() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 10);
    log.announce(vec![entry(1, "a"), entry(2, "a"), entry(3, "a")]);
    sent(&mut log, now);
    log.stored(2, now);
    log.start_again(now);
    assert_eq!(doubtful(&mut log, now), [1, 3]);
    assert_eq!(sent(&mut log, now), [0; 0]);
    [1, 3].iter().for_each(|seq| log.resolved(*seq, false, now));
    assert_eq!(sent(&mut log, now), [1, 3]);
}

#[test]
fn a_refused_subject_holds_back_itself_alone_and_keeps_its_order() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 10);
    log.announce(vec![entry(1, "a"), entry(2, "b"), entry(3, "a")]);
    assert_eq!(sent(&mut log, now), [1, 2, 3]);
    assert_eq!(log.refused(1, now), Some(Refused { refusals: 1 }));
    log.stored(2, now);
    assert_eq!(log.refused(3, now), Some(Refused { refusals: 1 }));
    log.announce(vec![entry(4, "a"), entry(5, "b")]);
    assert_eq!(sent(&mut log, now), [5]);
    let later = now + Duration::from_secs(60);
    assert_eq!(sent(&mut log, later), [1]);
    assert_eq!(log.refused(1, later), Some(Refused { refusals: 2 }));
    let later = later + Duration::from_secs(60);
    assert_eq!(sent(&mut log, later), [1]);
    log.stored(1, later);
    log.stored(5, later);
    assert_eq!(sent(&mut log, later), [3, 4]);
    log.stored(3, later);
    log.stored(4, later);
    assert_eq!((log.published(), log.backlog()), (5, 0));
}

#[test]
fn what_is_set_aside_lets_the_next_of_its_subject_try() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 10);
    log.announce(vec![entry(1, "a"), entry(2, "a")]);
    sent(&mut log, now);
    log.refused(1, now);
    log.refused(2, now);
    log.set_aside(1, now);
    assert_eq!(log.published(), 1);
    assert_eq!(sent(&mut log, now), [2]);
    log.set_aside(2, now);
    assert_eq!((log.published(), log.backlog()), (2, 0));
}

#[test]
fn what_does_not_fit_or_follow_is_read_from_the_table() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 4);
    log.announce((1..=6).map(|seq| entry(seq, "a")).collect());
    assert_eq!(sent(&mut log, now), [1, 2, 3, 4]);
    assert_eq!(log.wants(), None);
    (1..=4).for_each(|seq| log.stored(seq, now));
    assert_eq!(log.wants(), Some((4, 4)));
    log.announce(vec![entry(7, "a")]);
    log.read(4, vec![entry(5, "a"), entry(6, "a"), entry(7, "a")]);
    assert_eq!(sent(&mut log, now), [5, 6, 7]);
    assert_eq!(log.wants(), None);
}

#[test]
fn entries_of_an_earlier_process_are_in_doubt_until_resolved() {
    let now = Instant::now();
    let mut log = WriterLog::new(2, 4, 10);
    assert_eq!(log.wants(), Some((2, 10)));
    log.read(2, vec![entry(3, "a"), entry(4, "a")]);
    log.announce(vec![entry(5, "a")]);
    assert_eq!(doubtful(&mut log, now), [3, 4]);
    log.resolved(3, true, now);
    log.resolved(4, false, now);
    assert_eq!(doubtful(&mut log, now), [0; 0]);
    assert_eq!(sent(&mut log, now), [4, 5]);
}

/// A process that is frozen, say, between asking and sending.
#[test]
fn what_a_stream_said_counts_for_a_while_only() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 3, 10);
    log.read(0, vec![entry(1, "a"), entry(2, "a"), entry(3, "b")]);
    assert_eq!(doubtful(&mut log, now), [1, 2, 3]);
    assert_eq!(sent(&mut log, now), [0; 0], "nothing leaves while it is in doubt");
    (1..=3).for_each(|seq| log.resolved(seq, false, now));
    assert_eq!(log.send(now).map(|entry| entry.seq), Some(1));
    let later = now + GOOD;
    assert_eq!(log.send(later), None);
    assert_eq!(doubtful(&mut log, later), [2, 3]);
    log.resolved(2, true, later);
    log.resolved(3, false, later);
    assert_eq!(sent(&mut log, later), [3]);
}

#[test]
fn what_was_in_doubt_and_not_sent_is_in_doubt_again_after_a_broken_connection() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 2, 10);
    log.read(0, vec![entry(1, "a"), entry(2, "a")]);
    (1..=2).for_each(|seq| log.resolved(seq, false, now));
    log.announce(vec![entry(3, "a")]);
    log.start_again(now);
    assert_eq!(doubtful(&mut log, now), [1, 2], "3 was never sent");
}

#[test]
fn a_stuck_entry_in_doubt_is_asked_for_before_it_leaves() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 2, 10);
    log.read(0, vec![entry(1, "a"), entry(2, "a")]);
    (1..=2).for_each(|seq| log.resolved(seq, false, now));
    assert_eq!(log.send(now).map(|entry| entry.seq), Some(1));
    log.refused(1, now);
    assert_eq!(sent(&mut log, now), [0; 0]);
    let later = now + Duration::from_secs(60);
    assert_eq!(doubtful(&mut log, later), [0; 0], "1 was refused, and 2 is not about to leave");
    assert_eq!(sent(&mut log, later), [1]);
    log.stored(1, later);
    assert_eq!(sent(&mut log, later), [0; 0]);
    assert_eq!(doubtful(&mut log, later), [2]);
    log.resolved(2, false, later);
    assert_eq!(sent(&mut log, later), [2]);
}

#[test]
fn many_stuck_entries_leave_room_and_their_bodies_are_read_again() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 4);
    let with_body = |seq, subject: &str| Pending { payload: "body".into(), ..entry(seq, subject) };
    log.announce(vec![with_body(1, "a")]);
    sent(&mut log, now);
    log.refused(1, now);
    // Far more than there is room for, all of the refused subject, and one of another.
    let last = i64::try_from(LIGHT).expect("small") + 300;
    log.goes_to(last + 1);
    while let Some((after, limit)) = log.wants() {
        let to = last.min(after + i64::try_from(limit).expect("small"));
        log.read(after, (after + 1..=to).map(|seq| with_body(seq, "a")).collect());
        if to == last {
            log.read(last, vec![with_body(last + 1, "b")]);
        }
        let leaves = sent(&mut log, now);
        assert!(leaves.is_empty() || leaves == [last + 1], "{leaves:?}");
    }
    log.stored(last + 1, now);
    assert!(log.slots.iter().filter(|slot| slot.light).count() > 200);

    // The subject goes through again: all leave, in order, with what they had.
    let later = now + Duration::from_secs(60);
    let mut left = Vec::new();
    while left.len() < usize::try_from(last).expect("small") {
        while let Some(pending) = log.send(later) {
            assert_eq!(pending.payload, "body");
            let seq = pending.seq;
            left.push(seq);
            log.stored(seq, later);
        }
        if let Some((after, limit)) = log.wants_bodies(later) {
            let to = last.min(after + i64::try_from(limit).expect("small"));
            log.fill((after + 1..=to).map(|seq| with_body(seq, "a")).collect());
        }
    }
    assert_eq!(left, (1..=last).collect::<Vec<_>>());
    assert_eq!((log.published(), log.backlog()), (last + 1, 0));
}

#[test]
fn a_broken_connection_reads_the_bodies_of_the_stuck_again() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 4_096);
    log.announce(vec![entry(1, "a")]);
    sent(&mut log, now);
    log.refused(1, now);
    let last = i64::try_from(LIGHT).expect("small") + 10;
    log.announce((2..=last).map(|seq| entry(seq, "a")).collect());
    sent(&mut log, now);
    log.start_again(now);
    let later = now + Duration::from_secs(60);
    let mut left = Vec::new();
    while log.backlog() > 0 {
        for seq in sent(&mut log, later) {
            left.push(seq);
            log.stored(seq, later);
        }
        if let Some((after, _)) = log.wants_bodies(later) {
            log.fill((after + 1..=last).map(|seq| entry(seq, "a")).collect());
        }
    }
    assert_eq!(left, (1..=last).collect::<Vec<_>>());
}

/// A stream that is full and is taken from takes every other entry, say.
#[test]
fn a_stream_that_refuses_and_takes_in_turn_keeps_the_order() {
    let mut now = Instant::now();
    let mut log = WriterLog::new(0, 0, 100);
    log.announce((1..=3).map(|seq| entry(seq, "a")).collect());
    assert_eq!(sent(&mut log, now), [1, 2, 3]);
    for seq in 1..=3 {
        log.refused(seq, now);
    }
    log.announce((4..=20).map(|seq| entry(seq, "a")).collect());
    let mut stored = Vec::new();
    let mut takes = false;
    while stored.len() < 20 {
        now += Duration::from_millis(300);
        let leaves = sent(&mut log, now);
        assert!(leaves.len() <= 1, "{leaves:?}");
        for seq in leaves {
            takes = !takes;
            if takes {
                log.stored(seq, now);
                stored.push(seq);
            } else {
                log.refused(seq, now);
            }
        }
    }
    assert_eq!(stored, (1..=20).collect::<Vec<_>>());
}

/// A full stream with many that wait, whose bodies are read again bit by bit.
#[test]
fn a_subject_that_is_refused_once_more_is_not_overtaken_by_what_was_to_leave() {
    let mut now = Instant::now();
    let mut log = WriterLog::new(0, 0, 100);
    log.announce((1..=4).map(|seq| entry(seq, "a")).collect());
    assert_eq!(log.send(now).map(|entry| entry.seq), Some(1));
    log.refused(1, now);
    assert_eq!(sent(&mut log, now), [0; 0]);
    now += CARE;
    assert_eq!(sent(&mut log, now), [1]);
    log.stored(1, now);
    assert_eq!(log.send(now).map(|entry| entry.seq), Some(2));
    log.refused(2, now);
    assert_eq!(sent(&mut log, now), [0; 0], "3 stays behind 2");
    now += Duration::from_secs(10);
    assert_eq!(sent(&mut log, now), [2]);
}

#[test]
fn what_is_refused_later_than_what_was_to_leave_stays_behind_it() {
    let mut now = Instant::now();
    let mut log = WriterLog::new(0, 0, 100);
    log.announce((1..=3).map(|seq| entry(seq, "a")).collect());
    assert_eq!(sent(&mut log, now), [1, 2, 3]);
    log.refused(1, now);
    now += CARE;
    // 2 was in flight with it and is taken: 1 is to leave at once. But then 3 is refused.
    log.stored(2, now);
    log.refused(3, now);
    now += Duration::from_secs(10);
    assert_eq!(sent(&mut log, now), [1]);
}

#[test]
fn an_entry_that_is_tried_again_is_on_its_way_once() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 100);
    log.announce((1..=3).map(|seq| entry(seq, "a")).collect());
    assert_eq!(sent(&mut log, now), [1, 2, 3]);
    log.refused(2, now);
    log.stored(1, now);
    assert_eq!(sent(&mut log, now), [2]);
    // One that was in flight with it is taken; 2 still is on its way.
    log.stored(3, now);
    assert_eq!(sent(&mut log, now), [0; 0]);
    log.stored(2, now);
    assert_eq!((log.published(), log.backlog()), (3, 0));
    assert_eq!(log.refused(2, now), None);
}

#[test]
fn a_subject_that_was_refused_begins_with_one_entry_after_a_broken_connection() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 100);
    log.announce((1..=3).map(|seq| entry(seq, "a")).collect());
    sent(&mut log, now);
    log.refused(1, now);
    log.start_again(now);
    log.announce(vec![entry(4, "b")]);
    let mut leaves = sent(&mut log, now);
    leaves.sort_unstable();
    assert_eq!(leaves, [1, 4]);
}

#[test]
fn refusals_of_what_left_together_count_once_whatever_their_order() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 10);
    log.announce((1..=3).map(|seq| entry(seq, "a")).collect());
    assert_eq!(sent(&mut log, now), [1, 2, 3]);
    for seq in [2, 1, 3] {
        assert_eq!(log.refused(seq, now), Some(Refused { refusals: 1 }), "{seq}");
    }
}

#[test]
fn a_refused_subject_waits_for_nothing_of_another_that_goes_through_again() {
    let now = Instant::now();
    let mut log = WriterLog::new(0, 0, 10);
    log.announce(vec![entry(1, "a"), entry(2, "b"), entry(3, "a")]);
    assert_eq!(sent(&mut log, now), [1, 2, 3]);
    log.refused(1, now);
    log.refused(3, now);
    let later = now + Duration::from_secs(60);
    assert_eq!(sent(&mut log, later), [1]);
    log.stored(1, later);
    // 3 is about to leave when the other subject is refused.
    log.refused(2, later);
    assert_eq!(sent(&mut log, later), [3]);
    log.stored(3, later);
    let soon = later + CARE / 2;
    assert_eq!(sent(&mut log, soon), [2]);
    log.stored(2, soon);
    log.announce(vec![entry(4, "b")]);
    assert_eq!(sent(&mut log, soon), [4]);
}
