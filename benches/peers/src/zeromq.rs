//! ZeroMQ, a pair of sockets over its ipc transport. Payloads are copied in and out. Its own
//! threads do the work, so who waits for something sleeps: polling would take the processor from
//! them.

use std::ffi::{CString, c_char, c_int, c_void};

use crate::harness::transport::{Receiver, Sender, Touch, Transport, check, fill};
use crate::traces;

const PAIR: c_int = 0;
const RECEIVE_TIMEOUT: c_int = 27;

unsafe extern "C" {
    fn zmq_ctx_new() -> *mut c_void;
    fn zmq_ctx_term(context: *mut c_void) -> c_int;
    fn zmq_socket(context: *mut c_void, kind: c_int) -> *mut c_void;
    fn zmq_close(socket: *mut c_void) -> c_int;
    fn zmq_setsockopt(
        socket: *mut c_void,
        option: c_int,
        value: *const c_void,
        size: usize,
    ) -> c_int;
    fn zmq_bind(socket: *mut c_void, address: *const c_char) -> c_int;
    fn zmq_connect(socket: *mut c_void, address: *const c_char) -> c_int;
    fn zmq_send(socket: *mut c_void, bytes: *const c_void, size: usize, flags: c_int) -> c_int;
    fn zmq_recv(socket: *mut c_void, bytes: *mut c_void, size: usize, flags: c_int) -> c_int;
}

pub(crate) struct Address(CString);

impl Address {
    pub(crate) fn new() -> Address {
        let path = traces::directory().join(traces::name("zeromq"));
        Address(CString::new(format!("ipc://{}", path.display())).expect("no NUL"))
    }
}

/// A socket, its context with the thread that does its work, and a private payload.
pub(crate) struct End<const W: usize> {
    context: *mut c_void,
    socket: *mut c_void,
    payload: Box<[u64]>,
}

impl<const W: usize> End<W> {
    fn new(
        address: &Address,
        begin: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    ) -> End<W> {
        // SAFETY: as its manual has it, with a live address.
        unsafe {
            let context = zmq_ctx_new();
            let socket = zmq_socket(context, PAIR);
            let milliseconds: c_int = 10;
            let value = (&raw const milliseconds).cast();
            assert_eq!(zmq_setsockopt(socket, RECEIVE_TIMEOUT, value, size_of::<c_int>()), 0);
            assert_eq!(begin(socket, address.0.as_ptr()), 0, "an ipc socket");
            End { context, socket, payload: vec![0; W].into() }
        }
    }
}

impl<const W: usize> Drop for End<W> {
    fn drop(&mut self) {
        // SAFETY: closed once.
        unsafe {
            zmq_close(self.socket);
            zmq_ctx_term(self.context);
        }
    }
}

impl<const W: usize> Transport<W> for Address {
    type Sender = End<W>;
    type Receiver = End<W>;

    fn sender(&self) -> End<W> {
        End::new(self, zmq_bind)
    }

    fn receiver(&self) -> End<W> {
        End::new(self, zmq_connect)
    }
}

impl<const W: usize> Sender<W> for End<W> {
    fn send(&mut self, value: u64, touch: Touch) {
        let payload = self.payload.as_mut_ptr();
        // SAFETY: W words of its own, and a live socket.
        unsafe {
            fill::<W>(payload, value, touch);
            assert_eq!(zmq_send(self.socket, payload.cast(), 8 * W, 0), 8 * W as c_int);
        }
    }
}

impl<const W: usize> Receiver<W> for End<W> {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let payload = self.payload.as_mut_ptr();
        // SAFETY: W words of its own, and a live socket.
        unsafe {
            let size = zmq_recv(self.socket, payload.cast(), 8 * W, 0);
            (size == 8 * W as c_int).then(|| check::<W>(payload, touch))
        }
    }

    /// The receive before this has slept already.
    fn sleep(&mut self) {}
}
