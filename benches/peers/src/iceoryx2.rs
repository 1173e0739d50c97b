//! iceoryx2: publish and subscribe by its `ipc` service, and its events to wake a subscriber.

use std::mem::MaybeUninit;

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::sample_mut_uninit::SampleMutUninit;

use crate::harness::transport::{Receiver, Sender, Touch, Transport, check, fill};
use crate::traces;

type Payload<const W: usize> = [u64; W];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As it is by default: the oldest sample makes room.
    Overflow,
    /// A full buffer makes the publisher try again until there is room.
    Lossless,
    /// Each sample is announced by an event, for a subscriber that sleeps.
    Waking,
}

pub(crate) struct Service {
    name: String,
    mode: Mode,
    buffer: usize,
    /// Samples that the publisher may have on loan.
    loans: usize,
}

impl Service {
    pub(crate) fn new(mode: Mode, buffer: usize, kept: usize) -> Service {
        Service { name: traces::name("service"), mode, buffer, loans: kept + 2 }
    }

    fn node(&self) -> Node<ipc::Service> {
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        config.global.prefix = FileName::new(traces::prefix().as_bytes()).expect("a prefix");
        let root = traces::directory().display().to_string();
        config.global.set_root_path(&Path::new(root.as_bytes()).expect("a path"));
        NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create()
            .expect("a node")
    }

    fn samples<const W: usize>(
        &self,
        node: &Node<ipc::Service>,
    ) -> iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, Payload<W>, ()>
    {
        node.service_builder(&self.name.as_str().try_into().expect("a name"))
            .publish_subscribe::<Payload<W>>()
            .enable_safe_overflow(self.mode == Mode::Overflow)
            .subscriber_max_buffer_size(self.buffer)
            .subscriber_max_borrowed_samples(2)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
            .expect("a service")
    }

    fn events(
        &self,
        node: &Node<ipc::Service>,
    ) -> iceoryx2::service::port_factory::event::PortFactory<ipc::Service> {
        let name = format!("{}-events", self.name);
        node.service_builder(&name.as_str().try_into().expect("a name"))
            .event()
            .open_or_create()
            .expect("a service")
    }
}

pub(crate) struct Publishing<const W: usize> {
    publisher: Publisher<ipc::Service, Payload<W>, ()>,
    notifier: Option<Notifier<ipc::Service>>,
    kept: Vec<SampleMutUninit<ipc::Service, MaybeUninit<Payload<W>>, ()>>,
    _node: Node<ipc::Service>,
}

pub(crate) struct Subscribing<const W: usize> {
    subscriber: Subscriber<ipc::Service, Payload<W>, ()>,
    listener: Option<Listener<ipc::Service>>,
    _node: Node<ipc::Service>,
}

impl<const W: usize> Transport<W> for Service {
    type Sender = Publishing<W>;
    type Receiver = Subscribing<W>;

    fn sender(&self) -> Publishing<W> {
        let node = self.node();
        let publisher = self
            .samples::<W>(&node)
            .publisher_builder()
            .max_loaned_samples(self.loans)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("a publisher");
        let notifier = (self.mode == Mode::Waking)
            .then(|| self.events(&node).notifier_builder().create().expect("a notifier"));
        Publishing { publisher, notifier, kept: Vec::new(), _node: node }
    }

    fn receiver(&self) -> Subscribing<W> {
        let node = self.node();
        let subscriber = self
            .samples::<W>(&node)
            .subscriber_builder()
            .buffer_size(self.buffer)
            .create()
            .expect("a subscriber");
        let listener = (self.mode == Mode::Waking)
            .then(|| self.events(&node).listener_builder().create().expect("a listener"));
        Subscribing { subscriber, listener, _node: node }
    }
}

impl<const W: usize> Sender<W> for Publishing<W> {
    fn send(&mut self, value: u64, touch: Touch) {
        let mut sample = self.publisher.loan_uninit().expect("a loan");
        // SAFETY: W words on loan; all of them are written, or were by the last user of this
        // memory.
        let sample = unsafe {
            fill::<W>(sample.payload_mut().as_mut_ptr().cast(), value, touch);
            sample.assume_init()
        };
        assert_eq!(sample.send().expect("sent"), 1, "one subscriber");
        if let Some(notifier) = &self.notifier {
            notifier.notify().expect("notified");
        }
    }

    fn keep(&mut self, count: usize) {
        self.kept.extend((0..count).map(|_| self.publisher.loan_uninit().expect("a loan")));
    }
}

impl<const W: usize> Receiver<W> for Subscribing<W> {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let sample = self.subscriber.receive().expect("received")?;
        // SAFETY: W words of a live sample.
        Some(unsafe { check::<W>(sample.payload().as_ptr(), touch) })
    }

    fn sleep(&mut self) {
        self.listener.as_ref().expect("it wakes").blocking_wait(|_| ()).expect("woken");
    }
}
