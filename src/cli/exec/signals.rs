//! Signals, with where they came from.
//!
//! The command is in our process group, so what the terminal sends (^C, ^\, a hang-up, a resize) reaches it without us; a signal that
//! a process sent to us alone does not. The kernel says which it was: only the second kind is forwarded, and nothing arrives twice.
//! Handlers are back to their defaults in the command, because `execve` resets them.

use nix::sys::signal::Signal;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::cli::exit::{Exit, Failure};

/// The signals passed on to the command.
const FORWARDED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// One signal that arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Its number.
    pub(crate) number: i32,
    /// Whether the kernel sent it to the whole foreground group, the command included.
    pub(crate) from_terminal: bool,
}

/// Signals as they arrive.
pub(crate) struct Signals {
    arrived: UnboundedReceiver<Arrived>,
}

impl Signals {
    /// Catches the signals from now on.
    pub(crate) fn install() -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::new(
                Exit::NotStarted,
                "signals",
                format!("catch signals: {error}"),
                "check the process limits",
            )
        };
        let numbers = FORWARDED.map(|signal| signal as i32);
        let mut source = SignalsInfo::<WithOrigin>::new(numbers).map_err(cannot)?;
        let (sender, arrived) = unbounded_channel();
        let listen = move || {
            for origin in source.forever() {
                let from_terminal = matches!(origin.cause, Cause::Kernel);
                if sender
                    .send(Arrived {
                        number: origin.signal,
                        from_terminal,
                    })
                    .is_err()
                {
                    break;
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(listen)
            .map_err(cannot)?;
        Ok(Self { arrived })
    }

    /// The next signal. Pending for ever if there can be none.
    pub(crate) async fn next(&mut self) -> Arrived {
        match self.arrived.recv().await {
            Some(arrived) => arrived,
            None => std::future::pending().await,
        }
    }

    /// The next signal that asks us to end.
    pub(crate) async fn ending(&mut self) -> i32 {
        loop {
            let arrived = self.next().await;
            if asks_to_end(arrived.number) {
                return arrived.number;
            }
        }
    }

    /// A signal that has asked us to end already.
    pub(crate) fn ending_now(&mut self) -> Option<i32> {
        while let Ok(arrived) = self.arrived.try_recv() {
            if asks_to_end(arrived.number) {
                return Some(arrived.number);
            }
        }
        None
    }
}

fn asks_to_end(number: i32) -> bool {
    [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ]
    .iter()
    .any(|signal| *signal as i32 == number)
}

/// The exit code for an end by this signal.
pub(crate) fn exit_code(number: i32) -> u8 {
    u8::try_from(number.saturating_add(128)).unwrap_or(u8::MAX)
}
