//! `metrics`: what Prometheus and others collect, as OpenMetrics text.
//!
//! - `text`: the families, and how they are written.
//! - `server`: answers over HTTP.

mod server;
mod text;

use std::net::SocketAddr;

use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::look::{Look, observe};
use crate::pattern;
use crate::shell::Shell;
use crate::stop::Stop;

#[derive(Args, Debug)]
pub(crate) struct Metrics {
    /// Segments, as names or patterns with * and ?; all, if none is given
    names: Vec<String>,
    /// Answer HTTP requests here instead of printing once, for example 127.0.0.1:9577. Whoever can
    /// reach the address can read the names of segments and programs
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Also listen at an address that other machines may reach
    #[arg(long, requires = "listen")]
    public: bool,
}

impl Metrics {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let Some(address) = self.listen else {
            let looks = self.looks(shell)?;
            if shell.json {
                let all = looks.iter().map(Look::to_json).collect();
                return shell.print_json(&all);
            }
            return shell.print(text::of(&looks).trim_end());
        };
        if !address.ip().is_loopback() && !self.public {
            return Err(Failure::usage(format!(
                "--listen {address} is no address of this machine alone; use 127.0.0.1, or --public"
            )));
        }
        let stop = Stop::on_signals()?;
        server::run(shell, &stop, address, || Ok(text::of(&self.looks(shell)?)))
    }

    /// Looks at the segments that there are now. One that has just gone is left out, but one that
    /// was named must be there.
    fn looks(&self, shell: &Shell) -> Outcome<Vec<Look>> {
        let mut looks = Vec::new();
        for name in shell.names(&self.names)? {
            let look = observe(shell, &name).and_then(|segment| Look::at(&name, &segment));
            match look {
                Ok(look) => looks.push(look),
                Err(failure) => {
                    let was_named = self.names.contains(&name) && !pattern::is_pattern(&name);
                    if was_named && self.listen.is_none() {
                        return Err(failure.about(&name));
                    }
                }
            }
        }
        Ok(looks)
    }
}
