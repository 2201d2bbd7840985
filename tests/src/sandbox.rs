//! Where the processes of a node, of a pod or of the outside host run: namespaces and a cgroup, entered by threads.
//!
//! A thread enters (`setns`) and never comes back: each visit is a thread of its own. A process started from such a thread
//! inherits its namespaces, so nothing but the cgroup has to be arranged between fork and exec.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

use crate::cgroup::Cgroup;
use crate::netlink::Netlink;

#[expect(unsafe_code, reason = "what runs between fork and exec is unsafe; its reasons stand there")]
mod into_cgroup;

/// A namespace of any type, kept alive by an open descriptor.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<OwnedFd>);

/// A network namespace, perhaps with the mount namespace and the cgroup of the node that it belongs to.
#[derive(Debug, Clone)]
pub struct Sandbox {
    net: Namespace,
    mount: Option<Namespace>,
    cgroup: Option<Cgroup>,
}

// === impl Namespace ===

impl Namespace {
    /// Makes a network namespace with its loopback device up.
    pub fn new_net() -> Result<Self> {
        let made = on_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (this needs root)")?;
            Self::open(Path::new("/proc/thread-self/ns/net"))
        })?;
        Sandbox::from(made.clone()).netlink(async |link: Netlink| link.set_up("lo").await)?;
        Ok(made)
    }

    /// Opens a namespace file: `/proc/PID/ns/…` or a bind mount of one.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open the namespace {}", path.display()))?;
        Ok(Self(Arc::new(file.into())))
    }

    /// A path to it which every thread of this process can use, in whichever mount namespace it is.
    pub fn path(&self) -> std::path::PathBuf {
        use std::os::fd::AsRawFd as _;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// === impl Sandbox ===

impl From<Namespace> for Sandbox {
    fn from(net: Namespace) -> Self {
        Self { net, mount: None, cgroup: None }
    }
}

impl Sandbox {
    /// A sandbox of the network namespace `net` on the file systems of `mount`, whose processes are in `cgroup`.
    pub fn new(net: Namespace, mount: Namespace, cgroup: Cgroup) -> Self {
        Self { net, mount: Some(mount), cgroup: Some(cgroup) }
    }

    /// The same network and file systems, processes in another cgroup.
    pub fn in_cgroup(&self, cgroup: Cgroup) -> Self {
        Self { cgroup: Some(cgroup), ..self.clone() }
    }

    /// The same file systems and cgroup, another network.
    pub fn in_net(&self, net: Namespace) -> Self {
        Self { net, ..self.clone() }
    }

    /// The same network and cgroup, other file systems.
    pub fn in_mount(&self, mount: Namespace) -> Self {
        Self { mount: Some(mount), ..self.clone() }
    }

    /// Its network namespace.
    pub fn net(&self) -> &Namespace {
        &self.net
    }

    /// Its mount namespace; the machine's own if `None`.
    pub fn mount(&self) -> Option<&Namespace> {
        self.mount.as_ref()
    }

    /// Its cgroup; that of the lab's process if `None`.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Runs `visit` on a new thread inside. Sockets that it opens stay in the namespace, whoever uses them later.
    pub fn within<T: Send>(&self, visit: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_new_thread(|| {
            self.enter()?;
            visit()
        })
    }

    /// Runs `visit` on a new thread inside, with a small tokio runtime of its own.
    pub fn within_async<T: Send>(&self, visit: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
        self.within(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("start a runtime in a namespace")?;
            runtime.block_on(visit())
        })
    }

    /// Talks rtnetlink inside.
    pub fn netlink<T: Send>(&self, talk: impl AsyncFnOnce(Netlink) -> Result<T> + Send) -> Result<T> {
        self.within_async(async || talk(Netlink::connect()?).await)
    }

    /// Starts a process inside, in a process group of its own: Ctrl-C in the terminal is for the lab, not for it.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        if let Some(cgroup) = &self.cgroup {
            into_cgroup::start_in(command, cgroup.procs()?);
        }
        command.process_group(0);
        self.within(|| command.spawn().with_context(|| format!("start {}", command.get_program().display())))
    }

    /// Runs a command inside to its end, without standard input; its output is collected.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        self.output_with_input(command, b"")
    }

    /// Runs a command inside to its end with `input` (less than a pipe holds, 64 KiB) as its standard input.
    pub fn output_with_input(&self, command: &mut Command, input: &[u8]) -> Result<Output> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(command)?;
        if let Some(mut pipe) = child.stdin.take() {
            // A command that does not read its input is fine.
            pipe.write_all(input).ok();
        }
        child.wait_with_output().with_context(|| format!("wait for {}", command.get_program().display()))
    }

    /// Turns the calling process into `command` inside. Only for a process with a single thread; returns only on failure.
    pub fn exec(&self, command: &mut Command) -> anyhow::Error {
        let entered = self.cgroup.as_ref().map_or(Ok(()), Cgroup::join).and_then(|()| self.enter());
        match entered {
            Ok(()) => anyhow::Error::new(command.exec()).context(format!("run {}", command.get_program().display())),
            Err(error) => error,
        }
    }

    /// Moves the calling thread inside, for good.
    pub(crate) fn enter(&self) -> Result<()> {
        // Network first: it is entered by descriptor, and the mount namespace only changes what paths mean.
        setns(&self.net, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
        if let Some(mount) = &self.mount {
            // Threads share root and working directory; the kernel refuses a new mount namespace to those that do.
            unshare(CloneFlags::CLONE_FS).context("give the thread a working directory of its own")?;
            setns(mount, CloneFlags::CLONE_NEWNS).context("enter a mount namespace")?;
        }
        Ok(())
    }
}

/// Runs `visit` on a thread of its own and waits for it; a panic there goes on here.
pub(crate) fn on_new_thread<T: Send>(visit: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let visitor = thread::Builder::new().name("sandbox".into()).spawn_scoped(scope, visit);
        let Ok(visitor) = visitor else { bail!("start a thread: the limit of processes may be reached") };
        visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
