//! Ctrl-C and its relatives.

use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::events::Interrupt;

/// Exit code of a command that was interrupted: 128 and SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Turns SIGINT, SIGTERM and SIGHUP into `interrupt` and a message. A second one ends the process at once: the reaper does the rest.
pub fn listen(interrupt: &Interrupt) -> Result<Receiver<()>> {
    let (sender, receiver) = channel();
    let interrupt = interrupt.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("listen for signals")?;
    let mut signals = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .context("listen for signals")?
    };
    let listen = move || {
        runtime.block_on(async {
            let [interrupted, terminated, hung_up] = &mut signals[..] else { return };
            loop {
                tokio::select! {
                    _ = interrupted.recv() => {},
                    _ = terminated.recv() => {},
                    _ = hung_up.recv() => {},
                }
                if interrupt.is_requested() {
                    std::process::exit(INTERRUPTED.into());
                }
                interrupt.request();
                // Nobody may be waiting any more.
                sender.send(()).ok();
            }
        });
    };
    thread::Builder::new().name("signals".into()).spawn(listen).context("start a thread for signals")?;
    Ok(receiver)
}
