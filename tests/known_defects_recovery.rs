//! Known defects of other shared-memory libraries that show when a process dies or stops: one test
//! per defect. `docs/known-defects.md` lists them all.
#![allow(unsafe_code)]

mod defects;

use std::time::Duration;

use defects::{Directory, NOW, Peer, await_go, code, role, say, slots};
use shmslot::{AttachOptions, Code, CreateOptions, EndWaits, Policy, Segment};

/// What each peer does. It never returns from a role in which it must be killed.
#[test]
fn peer() {
    let Some((role, name)) = role() else { return };
    let segment = Segment::attach(&name, &AttachOptions::default()).expect("attach");
    let until_killed = || {
        say("ready");
        await_go();
    };
    match role.as_str() {
        "reader that holds and owes" => {
            let reader = segment.reader(0).expect("reader");
            say("joined");
            reader.wait(None).expect("samples come");
            let _in_hand = reader.read().expect("read").expect("a sample");
            until_killed();
        }
        "reader that took and left" => {
            let reader = segment.reader(0).expect("reader");
            say("joined");
            reader.wait(None).expect("samples come");
            let _in_hand = reader.read().expect("read").expect("a sample").into_owned();
            drop(reader);
            until_killed();
        }
        "writer of three" => {
            let writer = segment.writer().expect("writer");
            for text in [b"one", b"two", b"end"] {
                writer.write(text, NOW).expect("write");
            }
            until_killed();
        }
        "writer that stops" => {
            let writer = segment.writer().expect("writer");
            let mut loan = writer.reserve(64, NOW).expect("a slot");
            loan.copy_from(&[1; 32]).expect("it fits");
            until_killed();
            loan.copy_from(&[2; 64]).expect("it fits");
            loan.commit(64).expect("the loan is still its own");
        }
        "busy" => {
            let (reader, writer) =
                (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
            say("ready");
            loop {
                let loan = writer.reserve(8, NOW);
                drop(writer.reserve(8, NOW));
                if let Ok(loan) = loan {
                    loan.commit(8).expect("commit");
                }
                while let Ok(Some(_)) = reader.read() {}
            }
        }
        _ => {
            let _reader = segment.reader(0).expect("a place as reader");
            until_killed();
        }
    }
}

/// Every slot can be reserved, and then no more.
fn check_all_free(segment: &Segment, slot_count: usize) {
    let writer = segment.writer().expect("writer");
    let loans: Vec<_> = (0..slot_count).map(|_| writer.reserve(8, NOW).expect("a slot")).collect();
    assert_eq!(code(writer.reserve(8, NOW)), Code::NoFreeSlot);
    drop(loans);
}

/// There nothing noticed that a reader was dead: what it had not marked blocked the writer
/// permanently.
#[test]
fn flat_dead_reader_blocks() {
    for policy in [Policy::Fail, Policy::Block, Policy::DropOldest] {
        let directory = Directory::new();
        let name = directory.name("segment");
        let segment = Segment::create(&name, &CreateOptions { policy: Some(policy), ..slots(4) })
            .expect("create");
        let writer = segment.writer().expect("writer");
        let mut dead = Peer::start("reader that holds and owes", &name);
        assert_eq!(dead.hear(), "joined");
        for count in 0..3u8 {
            writer.write(&[count], NOW).expect("write");
        }
        assert_eq!(dead.hear(), "ready");
        dead.kill();
        // Nobody calls recover: a reserve that finds nothing does it.
        let reader = segment.reader(0).expect("reader");
        for count in 0..20u8 {
            writer.write(&[count], NOW).expect("the dead reader is owed nothing");
            assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), [count]);
        }
        check_all_free(&segment, 4);
        assert_eq!(segment.info().expect("info").readers, 1 << reader.index());
    }
}

/// There the object of a killed owner stayed, and every later create failed.
#[test]
fn flat_stale_after_kill() {
    let directory = Directory::new();
    let name = directory.name("segment");
    for open in [false, true] {
        let segment = Segment::create(&name, &slots(2)).expect("create");
        let dead = Peer::ready("attached", &name);
        drop(segment);
        assert_eq!(code(Segment::create(&name, &slots(2))), Code::Exists);
        dead.kill();
        if open {
            let (_, created) = Segment::open(&name, &slots(2)).expect("open");
            assert!(created);
        } else {
            Segment::create(&name, &slots(2)).expect("nobody is attached any more");
        }
        assert_eq!(directory.files(), 1);
        Segment::unlink(&name).expect("unlink");
    }
}

/// There recovery did not know what the dead had already taken from its queue, and leaked those
/// slots.
#[test]
fn vox_taken_slot_leaks_on_crash() {
    for role in ["reader that holds and owes", "reader that took and left"] {
        let directory = Directory::new();
        let name = directory.name("segment");
        let segment = Segment::create(&name, &slots(2)).expect("create");
        let writer = segment.writer().expect("writer");
        let mut dead = Peer::start(role, &name);
        assert_eq!(dead.hear(), "joined");
        writer.write(b"taken", NOW).expect("write");
        assert_eq!(dead.hear(), "ready");
        assert_eq!(segment.recover().expect("recover"), 0);
        drop(writer.reserve(8, NOW).expect("one is free"));
        dead.kill();
        // The first process that looks recovers, once.
        assert_eq!(segment.recover().expect("recover"), 1);
        assert_eq!(segment.recover().expect("recover"), 0);
        check_all_free(&segment, 2);
    }
}

/// There recovery freed slots of the dead writer that a living reader was still reading.
#[test]
fn vox_recovery_frees_borrowed_slot() {
    for policy in [Policy::Fail, Policy::DropOldest] {
        let directory = Directory::new();
        let name = directory.name("segment");
        let segment = Segment::create(&name, &CreateOptions { policy: Some(policy), ..slots(3) })
            .expect("create");
        let reader = segment.reader(0).expect("reader");
        let dead = Peer::ready("writer of three", &name);
        let borrowed = reader.read().expect("read").expect("a sample");
        dead.kill();
        assert_eq!(segment.recover().expect("recover"), 1);
        let writer = segment.writer().expect("writer");
        for _ in 0..10 {
            if let Ok(mut loan) = writer.reserve(64, NOW) {
                loan.copy_from(&[0; 64]).expect("it fits");
                loan.commit(64).expect("commit");
            }
        }
        assert_eq!(borrowed.to_vec(), b"one");
        if policy == Policy::Fail {
            // The unread ones are not taken either: they were published, and outlive their writer.
            assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"two");
        }
    }
}

/// There a commit waited permanently for a dead peer.
#[test]
fn vox_commit_spins_on_dead_peer() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let segment =
        Segment::create(&name, &CreateOptions { policy: Some(Policy::Block), ..slots(2) })
            .expect("create");
    let writer = segment.writer().expect("writer");
    for kill_first in [true, false] {
        let mut dead = Peer::start("reader that holds and owes", &name);
        assert_eq!(dead.hear(), "joined");
        writer.write(b"x", None).expect("write");
        writer.write(b"x", None).expect("write");
        assert_eq!(dead.hear(), "ready");
        if kill_first {
            dead.kill();
            writer.write(b"x", None).expect("no limit, and no need of one");
        } else {
            // It dies while the writer sleeps.
            std::thread::scope(|scope| {
                let (tell, told) = std::sync::mpsc::channel();
                let segment = &segment;
                let waiting = scope.spawn(move || {
                    let writer = segment.writer().expect("writer");
                    tell.send(defects::this_thread()).expect("heard");
                    writer.write(b"x", None)
                });
                defects::until_asleep(&told.recv().expect("it tells"));
                dead.kill();
                waiting.join().expect("no panic").expect("write");
            });
        }
        segment.recover().expect("recover");
    }
    check_all_free(&segment, 2);
}

/// There the end of the connection was reported before the contents of the ring, which were lost.
#[test]
fn vox_last_message_lost() {
    for end in [
        EndWaits { no_writers: true, ..EndWaits::default() },
        EndWaits { peer_dead: true, ..EndWaits::default() },
        EndWaits { no_writers: true, peer_dead: true, ..EndWaits::default() },
    ] {
        for recover_first in [true, false] {
            let directory = Directory::new();
            let name = directory.name("segment");
            let segment = Segment::create(&name, &slots(4)).expect("create");
            let reader = segment.reader(0).expect("reader");
            reader.end_waits(end).expect("end_waits");
            Peer::ready("writer of three", &name).kill();
            if recover_first {
                assert_eq!(segment.recover().expect("recover"), 1);
            }
            for text in [b"one", b"two", b"end"] {
                reader.wait(None).expect("samples come first");
                assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), text);
            }
            let over = code(reader.wait(None));
            assert!(
                over == Code::PeerDead && end.peer_dead
                    || over == Code::NoWriters && end.no_writers
            );
            // It was not the end of the segment.
            segment.writer().expect("writer").write(b"new", NOW).expect("write");
            assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"new");
        }
    }
}

/// There each death lost a place. Here many more processes die than there are places.
#[test]
fn vox_crash_leaks_peer_slot() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let options = CreateOptions { max_participants: 2, max_readers: 1, ..slots(2) };
    let segment = Segment::create(&name, &options).expect("create");
    for _ in 0..8 {
        let peer = Peer::ready("attached", &name);
        let all = segment.participants().expect("participants");
        let seen: Vec<_> =
            all.iter().map(|one| (one.pid, one.alive, one.readers.count_ones())).collect();
        assert!(seen.contains(&(peer.pid(), true, 1)), "{seen:?}");
        assert_eq!(
            code(Segment::attach(&name, &AttachOptions::default())),
            Code::NoParticipantSlot
        );
        peer.kill();
    }
    segment.reader(0).expect("the place of the last reader");
    assert_eq!(segment.participants().expect("participants").len(), 1);
}

/// There a process that was killed between two steps of alloc or free lost the slot. Here it is
/// killed anywhere.
#[test]
fn vox_crash_windows() {
    let directory = Directory::new();
    let name = directory.name("segment");
    for policy in [Policy::Fail, Policy::DropOldest] {
        let segment = Segment::create(&name, &CreateOptions { policy: Some(policy), ..slots(3) })
            .expect("create");
        for round in 0..8 {
            let peers = [(); 2].map(|()| Peer::ready("busy", &name));
            // Some of them are killed later, so that they do not always die at their beginning.
            let until = segment.info().expect("info").next_sequence + round * 7;
            while segment.info().expect("info").next_sequence < until {
                std::thread::yield_now();
            }
            for peer in peers {
                peer.kill();
            }
            segment.recover().expect("recover");
            check_all_free(&segment, 3);
            let info = segment.info().expect("info");
            assert_eq!((info.readers, info.participants), (0, 1), "round {round}");
        }
        let (reader, writer) =
            (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
        let next = segment.info().expect("info").next_sequence;
        assert_eq!(writer.write(b"x", NOW).expect("write"), next);
        assert_eq!(reader.read().expect("read").expect("a sample").sequence(), next);
        Segment::unlink(&name).expect("unlink");
    }
}

/// There a late heartbeat counted as a death, and two producers used one ring.
#[test]
fn vox_false_crash_verdict() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let options = CreateOptions { policy: Some(Policy::Block), max_participants: 2, ..slots(2) };
    let segment = Segment::create(&name, &options).expect("create");
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    let mut stopped = Peer::ready("writer that stops", &name);
    stopped.signal(libc::SIGSTOP);
    stopped.until_state('T');
    writer.write(b"mine", NOW).expect("the other slot");
    // Each of these looks for the dead: on its own, for lack of a place, in a wait longer than a
    // slice, and on request.
    assert_eq!(code(writer.write(b"x", NOW)), Code::NoFreeSlot);
    assert_eq!(code(Segment::attach(&name, &AttachOptions::default())), Code::NoParticipantSlot);
    assert_eq!(code(writer.write(b"x", Some(Duration::from_millis(450)))), Code::NoFreeSlot);
    assert_eq!(segment.recover().expect("recover"), 0);
    let all = segment.participants().expect("participants");
    assert!(
        all.iter().any(|one| one.pid == stopped.pid() && one.alive && one.writers == 1),
        "{all:?}"
    );
    stopped.signal(libc::SIGCONT);
    stopped.go();
    stopped.finish();
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"mine");
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), [2; 64]);
    check_all_free(&segment, 2);
}
