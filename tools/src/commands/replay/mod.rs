//! `replay`: an MCAP file into segments, in the rhythm in which it was recorded.
//!
//! - `input`: the records of a file, one after the other, also of a file that ends early.
//! - `chunk`: the records of a chunk, which may be compressed.
//! - `target`: the segment of a channel.

mod chunk;
mod input;
mod target;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use mcap::records::{MessageHeader, Record};
use serde_json::json;

use self::input::Input;
use self::target::Target;
use crate::drain::drained;
use crate::failure::{Failure, Outcome};
use crate::pattern;
use crate::progress::{Progress, in_words};
use crate::shell::Shell;
use crate::stop::Stop;
use crate::units::read_seconds;

#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// The recording, of this command or of any other
    file: PathBuf,
    /// Play so many times faster; 0 plays as fast as the readers read
    #[arg(short, long, value_name = "FACTOR", default_value_t = 1.0)]
    rate: f64,
    /// Play again and again, until a signal comes
    #[arg(short, long = "loop")]
    again: bool,
    /// Play only topics that fit, in which * and ? stand for other characters
    #[arg(short, long, value_name = "PATTERN")]
    topics: Vec<String>,
    /// Play a topic into a segment of another name
    #[arg(long, value_name = "TOPIC:=NAME")]
    remap: Vec<String>,
    /// Leave out what was recorded before so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = read_seconds, default_value = "0")]
    start: Duration,
    /// Leave out what was recorded after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = read_seconds)]
    end: Option<Duration>,
    /// Begin to play into a segment when so many readers have joined it
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    readers: u32,
    /// Leave the segments behind
    #[arg(long)]
    keep: bool,
}

/// What a channel of the file is here.
enum Channel {
    Plays(Box<Target>),
    /// The user headers of the channel with this topic.
    HeadersOf(String),
    LeftOut,
}

struct Player<'p> {
    replay: &'p Replay,
    shell: &'p Shell,
    stop: &'p Stop,
    remaps: HashMap<&'p str, &'p str>,
    /// Names of types, by schema.
    schemas: HashMap<u16, String>,
    channels: HashMap<u16, Channel>,
    /// The last user header of each topic, and the sequence that it belongs to.
    headers: HashMap<String, (u32, Vec<u8>)>,
    /// The first time in the file, and when it is played.
    began: Option<(u64, Instant)>,
    messages: u64,
    bytes: u64,
}

impl Replay {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        if !self.rate.is_finite() || self.rate < 0.0 {
            return Err(Failure::usage(format!("--rate {} is no factor", self.rate)));
        }
        let split = |remap| {
            let parts = str::split_once(remap, ":=");
            parts.ok_or_else(|| Failure::usage(format!("--remap \"{remap}\" is not TOPIC:=NAME")))
        };
        let remaps = self.remap.iter().map(|remap| split(remap)).collect::<Outcome<_>>()?;
        let mut input = Input::open(&self.file)?;
        let stop = Stop::on_signals()?;
        let mut player = Player {
            replay: self,
            shell,
            stop: &stop,
            remaps,
            schemas: HashMap::new(),
            channels: HashMap::new(),
            headers: HashMap::new(),
            began: None,
            messages: 0,
            bytes: 0,
        };
        let progress = Progress::new(shell, None);
        loop {
            let played = input.each_record(|record| player.play(record, &progress))?;
            if input.ended_early() {
                shell.remark(
                    "the file ends early: its recorder was killed, or it was not copied whole",
                );
            }
            if !played || !self.again || player.messages == 0 {
                break;
            }
            player.began = None;
            input = Input::open(&self.file)?;
        }
        player.finish(&progress)
    }
}

impl Player<'_> {
    /// False if nothing more is to be played.
    fn play(&mut self, record: Record<'_>, progress: &Progress) -> Outcome<bool> {
        match record {
            Record::Schema { header, .. } => {
                self.schemas.insert(header.id, header.name);
            }
            Record::Channel(channel) if !self.channels.contains_key(&channel.id) => {
                let opened = self.open(&channel)?;
                self.channels.insert(channel.id, opened);
            }
            Record::Message { header, data } => return self.message(header, &data, progress),
            _ => {}
        }
        Ok(!self.stop.is_stopped())
    }

    fn open(&mut self, channel: &mcap::records::Channel) -> Outcome<Channel> {
        if let Some(of) = channel.metadata.get("shmslot.header_of") {
            return Ok(Channel::HeadersOf(of.clone()));
        }
        if !pattern::fits_any(&self.replay.topics, &channel.topic) {
            return Ok(Channel::LeftOut);
        }
        let name = match self.remaps.get(&*channel.topic) {
            Some(name) => (*name).to_owned(),
            None => target::name_of(&channel.topic),
        };
        let type_name = self.schemas.get(&channel.schema_id).map_or("", String::as_str);
        let target = Target::open(self.shell, &name, channel, type_name)
            .map_err(|failure| failure.about(&name))?;
        self.shell.remark(&format!("plays \"{}\" into the segment \"{name}\"", channel.topic));
        self.stop.ends(target.interrupter());
        if !target.wait_readers(self.replay.readers, self.shell.timeout)? {
            return Err(Failure::interrupted("nothing was played"));
        }
        Ok(Channel::Plays(Box::new(target)))
    }

    fn message(
        &mut self,
        header: MessageHeader,
        data: &[u8],
        progress: &Progress,
    ) -> Outcome<bool> {
        let replay = self.replay;
        let (first, _) = *self.began.get_or_insert_with(|| (header.log_time, Instant::now()));
        let at = Duration::from_nanos(header.log_time.saturating_sub(first));
        if at < replay.start {
            return Ok(!self.stop.is_stopped());
        }
        if replay.end.is_some_and(|end| at > end) {
            // Other channels may be a little behind.
            return Ok(!self.stop.is_stopped());
        }
        match self.channels.get(&header.channel_id) {
            Some(Channel::HeadersOf(topic)) => {
                self.headers.insert(topic.clone(), (header.sequence, data.to_vec()));
            }
            Some(Channel::Plays(target)) => {
                if !self.is_due(at - replay.start) {
                    return Ok(false);
                }
                let beside = self.headers.get(target.topic());
                let beside = beside.filter(|(sequence, _)| *sequence == header.sequence);
                let user_header = beside.map_or(&[][..], |(_, bytes)| bytes);
                if !target.write(data, user_header)? {
                    return Ok(false);
                }
                self.messages += 1;
                self.bytes += data.len() as u64;
                progress.add(data.len() as u64);
            }
            _ => {}
        }
        Ok(!self.stop.is_stopped())
    }

    /// Waits until a time of the file has come; false if a signal came first.
    fn is_due(&self, at: Duration) -> bool {
        let Some((_, began)) = self.began.filter(|_| self.replay.rate > 0.0) else { return true };
        let due = Duration::try_from_secs_f64(at.as_secs_f64() / self.replay.rate);
        match due.ok().and_then(|due| began.checked_add(due)) {
            Some(due) => self.stop.sleep_until(due),
            // Later than any process lives.
            None => self.stop.sleep(Duration::MAX),
        }
    }

    fn finish(self, progress: &Progress) -> Outcome {
        let Player { replay, shell, stop, channels, messages, bytes, .. } = self;
        let mut targets: Vec<Target> = Vec::new();
        for channel in channels.into_values() {
            if let Channel::Plays(target) = channel {
                targets.push(*target);
            }
        }
        for target in &targets {
            if !stop.is_stopped() {
                drained(target.segment(), stop)?;
            }
        }
        let time = progress.finish();
        // So that the segments are closed below.
        stop.release();
        targets.into_iter().try_for_each(|target| target.close(replay.keep))?;
        if shell.json {
            return shell.print_json(&json!({
                "file": replay.file.to_string_lossy(),
                "messages": messages,
                "bytes": bytes,
                "seconds": time.as_secs_f64(),
            }));
        }
        shell.remark(&format!("played {messages} messages, {}", in_words(bytes, time)));
        Ok(())
    }
}
