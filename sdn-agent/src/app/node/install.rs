//! The CNI plugin is put where the runtime looks for it, when that is asked for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::readiness::Readiness;
use crate::app::stage;
use crate::app::tasks::Tasks;
use crate::cni;
use crate::cni::install::{InstallError, Installation, PLUGIN};
use crate::config::Config;

/// How soon to try again: a host's directory may be mounted late.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Installs plugin and configuration; the latter when pods can come, because the runtime takes the node for ready by it.
pub(super) fn spawn(
    config: &Arc<Config>,
    mut forwarding: watch::Receiver<cni::Readiness>,
    readiness: &Readiness,
    tasks: &Tasks,
) {
    if !config.cni.install {
        return readiness.reached(stage::INSTALL);
    }
    let (installation, readiness) = (installation(config), readiness.clone());
    tasks.spawn(async move {
        retried(&readiness, || installation.install_plugin()).await;
        if forwarding.wait_for(|now| *now == cni::Readiness::Ready).await.is_ok() {
            retried(&readiness, || installation.install_conflist()).await;
            readiness.reached(stage::INSTALL);
        }
    });
}

async fn retried(readiness: &Readiness, step: impl Fn() -> Result<(), InstallError>) {
    while let Err(error) = step() {
        readiness.blocked(stage::INSTALL, error.to_string());
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

fn installation(config: &Config) -> Installation {
    Installation {
        plugin: config.cni.plugin.clone().unwrap_or_else(beside_this_program),
        bin_dir: config.cni.bin_dir.clone(),
        conf_dir: config.cni.conf_dir.clone(),
        socket: config.paths.cni_socket(),
    }
}

/// The plugin that was built with this agent. A program that was replaced while it ran has " (deleted)" at the end of its name
/// only, so its directory is still right.
fn beside_this_program() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.with_file_name(PLUGIN)
}
