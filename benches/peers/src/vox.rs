//! vox-shm: the whole of its link, one direction used. Each commit and receive signals the other
//! side by a system call.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use shm_primitives::{FileCleanup, PeerId};
use vox_shm::{HostHub, Segment, SegmentConfig, ShmLink, SizeClassConfig, guest_link_from_raw};
use vox_types::{Backing, Link, LinkRx, LinkTx, LinkTxPermit, WriteSlot};

use crate::harness::transport::{Receiver, Sender, Touch, Transport, check, fill};
use crate::traces;

type Tx = <ShmLink as Link>::Tx;
type Rx = <ShmLink as Link>::Rx;

/// A segment by its path, and a socket over which the sender's process, the host, invites the other
/// one.
pub(crate) struct Segments {
    path: PathBuf,
    /// The file goes with it.
    _owner: Segment,
    invitation: [OwnedFd; 2],
}

impl Segments {
    pub(crate) fn new<const W: usize>(slots: u32) -> Segments {
        let path = traces::directory().join(traces::name("vox"));
        // A payload in a slot has four bytes before it.
        let size_classes = [SizeClassConfig { slot_size: 8 * W as u32 + 64, slot_count: slots }];
        let config = SegmentConfig {
            max_guests: 1,
            bipbuf_capacity: 64 << 10,
            max_payload_size: 8 * W as u32,
            inline_threshold: 256,
            heartbeat_interval: 0,
            size_classes: &size_classes,
        };
        let owner = Segment::create(&path, config, FileCleanup::Manual).expect("a segment");
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .expect("sockets");
        Segments { path, _owner: owner, invitation: [one, other] }
    }

    fn attach(&self) -> Arc<Segment> {
        Arc::new(Segment::attach(&self.path).expect("attached"))
    }

    fn invite(&self, peer: PeerId, descriptors: [RawFd; 3]) {
        let bytes = [peer.get()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(
            self.invitation[0].as_raw_fd(),
            &[IoSlice::new(&bytes)],
            &rights,
            MsgFlags::empty(),
            None,
        )
        .expect("sent");
    }

    fn invited(&self) -> (PeerId, [RawFd; 3]) {
        let mut byte = [0];
        let mut room = cmsg_space!([RawFd; 3]);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let message = recvmsg::<()>(
            self.invitation[1].as_raw_fd(),
            &mut parts,
            Some(&mut room),
            MsgFlags::empty(),
        )
        .expect("received");
        let Some(ControlMessageOwned::ScmRights(descriptors)) =
            message.cmsgs().expect("whole").next()
        else {
            panic!("no descriptors");
        };
        (PeerId::new(byte[0]).expect("a number"), descriptors.try_into().expect("three"))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime")
}

/// What a future has at this moment.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// What belongs to an end comes before the runtime that its sockets are registered with.
pub(crate) struct Sending<const W: usize> {
    tx: Tx,
    kept: Vec<<<Tx as LinkTx>::Permit as LinkTxPermit>::Slot>,
    _rx: Rx,
    _runtime: tokio::runtime::Runtime,
}

pub(crate) struct Receiving<const W: usize> {
    rx: Rx,
    _tx: Tx,
    runtime: tokio::runtime::Runtime,
}

impl<const W: usize> Transport<W> for Segments {
    type Sender = Sending<W>;
    type Receiver = Receiving<W>;

    fn sender(&self) -> Sending<W> {
        let runtime = runtime();
        let inside = runtime.enter();
        let (host, guest) =
            HostHub::new(self.attach()).prepare_peer().expect("a peer").into_parts();
        let descriptors = [guest.doorbell.as_raw_fd(), guest.mmap_rx.as_raw_fd(), guest.mmap_tx_fd];
        self.invite(guest.peer_id, descriptors);
        let (tx, rx) = host.into_link().expect("a link").split();
        drop(inside);
        Sending { tx, kept: Vec::new(), _rx: rx, _runtime: runtime }
    }

    fn receiver(&self) -> Receiving<W> {
        let runtime = runtime();
        let inside = runtime.enter();
        let (peer, [doorbell, mmap_rx, mmap_tx]) = self.invited();
        // SAFETY: the descriptors have just come, and are used for nothing else.
        let link =
            unsafe { guest_link_from_raw(self.attach(), peer, doorbell, mmap_rx, mmap_tx, true) };
        let (tx, rx) = link.expect("a link").split();
        drop(inside);
        Receiving { rx, _tx: tx, runtime }
    }
}

impl<const W: usize> Sender<W> for Sending<W> {
    fn send(&mut self, value: u64, touch: Touch) {
        loop {
            let Some(permit) = now(self.tx.reserve()) else { continue };
            let Ok(mut slot) = permit.expect("a link").alloc(8 * W) else { continue };
            // SAFETY: a slot of that length.
            unsafe { fill::<W>(slot.as_mut_slice().as_mut_ptr().cast(), value, touch) };
            slot.commit();
            return;
        }
    }

    fn keep(&mut self, count: usize) {
        for _ in 0..count {
            let permit = now(self.tx.reserve()).expect("room").expect("a link");
            self.kept.push(permit.alloc(8 * W).expect("a slot"));
        }
    }
}

fn value<const W: usize>(backing: &Backing, touch: Touch) -> u64 {
    let bytes = backing.as_bytes();
    assert_eq!(bytes.len(), 8 * W);
    // SAFETY: that many bytes.
    unsafe { check::<W>(bytes.as_ptr().cast(), touch) }
}

impl<const W: usize> Receiver<W> for Receiving<W> {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let backing = now(self.rx.recv())?.expect("a link").expect("the other side lives");
        Some(value::<W>(&backing, touch))
    }

    fn sleep(&mut self) {
        unreachable!("a receive that is waited for sleeps");
    }

    fn receive_asleep(&mut self, touch: Touch) -> u64 {
        let backing =
            self.runtime.block_on(self.rx.recv()).expect("a link").expect("the other side lives");
        value::<W>(&backing, touch)
    }
}
