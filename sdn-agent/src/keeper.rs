//! The keeper: a small process that holds the listening sockets, so that they outlive every role that serves them.
//!
//! It opens the sockets or takes them from the keeper that runs already, starts its role as a child with the sockets as
//! inherited descriptors, starts it again when it dies, and gives the sockets to the next keeper when one asks. It reads nothing
//! from those sockets, runs one thread and no runtime.
//!
//! ```text
//! keeper killed     the role gets SIGKILL from the kernel (PR_SET_PDEATHSIG): no orphan serves beside a new keeper's role
//! role killed       what waits in the sockets waits for its successor
//! new keeper        asks at keeper.sock; the old one stops its role, passes the sockets, ends with code 0
//! ```
//!
//! One keeper a run directory: it holds an flock on that directory, and passes the locked descriptor along with the sockets.

mod acquire;
mod backoff;
mod handover;
mod inherited;
mod role;
mod sockets;
mod supervise;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use acquire::{Doors, acquire};
pub use inherited::Inherited;
pub use role::RoleCommand;
pub use sockets::{Address, Sockets};
pub use supervise::{Ended, supervise};

/// How long a role may take to end after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(10);

/// What stops a keeper, or a role from taking over what its keeper gave it.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The run directory cannot be used.
    #[error("use run directory {}: {cause} (does it exist on a writable file system?)", path.display())]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A socket cannot be opened.
    #[error("listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: Address,
        /// What the system said.
        cause: io::Error,
    },
    /// A socket's path belongs to somebody else.
    #[error("listen on {address}: another process listens there, which is no keeper (see `ss -xlp`)")]
    Taken {
        /// Where.
        address: Address,
    },
    /// The running keeper did not give its sockets.
    #[error("take the sockets from the running keeper at {}: {cause}", path.display())]
    TakeOver {
        /// Its socket.
        path: PathBuf,
        /// What went wrong.
        cause: String,
    },
    /// The process' signals cannot be set up, or waiting for events failed.
    #[error("{operation}: {cause}")]
    Process {
        /// Which system call, in words.
        operation: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// What the environment says about inherited sockets is wrong.
    #[error("take over inherited socket {name}: {cause} (was this process started by a keeper?)")]
    Inherit {
        /// The socket's name.
        name: String,
        /// What is wrong.
        cause: String,
    },
}
