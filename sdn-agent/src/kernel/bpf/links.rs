//! Programs on their hooks. A link is pinned by hook and interface, and switched to a new program in place, so that there is no
//! moment without one.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, Program, ProgramError, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use sdn_common::Hook;

use super::pins::{self, PinDirectory, PinError};

/// A network device, by the two things it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Its name, which the kernel resolves in this process's network namespace.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
}

/// The loaded programs. Shared, because aya reads a program's counters only through the program itself.
#[derive(Clone, Debug)]
pub struct Programs {
    pub(super) object: Arc<Mutex<Ebpf>>,
}

/// A program could not be put on a hook, or taken off.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object has no such program: it was built from other sources.
    #[error(
        "find program {0} in the kernel object: it is not there; the object and this binary are of different builds"
    )]
    NoProgram(&'static str),
    /// The kernel refused.
    #[error("attach {program} to {device}: {cause}")]
    Attach {
        /// The program.
        program: &'static str,
        /// Where it was to go.
        device: String,
        /// What the kernel said.
        cause: String,
    },
    /// The device under this name is another one.
    #[error("attach {program} to {name}: its index is {found}, not {expected}; the device was made anew")]
    WrongDevice {
        /// The program.
        program: &'static str,
        /// The device's name.
        name: String,
        /// The index that was asked for.
        expected: u32,
        /// The index that the name has now.
        found: u32,
    },
    /// The pin of a link could not be read, made or removed.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// What became of a pinned link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switched {
    /// It runs the new program.
    Updated,
    /// Its device is gone, and the pin with it.
    Removed,
    /// There was no pin.
    Absent,
}

impl Programs {
    /// Puts a hook's program on a device: switches the pinned link if there is one, else attaches and pins.
    pub fn attach(&self, pins: &PinDirectory, hook: Hook, device: &Device) -> Result<(), AttachError> {
        if self.switch(pins, hook, device.ifindex)? == Switched::Updated {
            return Ok(());
        }
        self.attach_new(pins, hook, device)
    }

    /// Switches a pinned link to the loaded program; removes a pin whose device is gone.
    pub(super) fn switch(&self, pins: &PinDirectory, hook: Hook, ifindex: u32) -> Result<Switched, AttachError> {
        let path = pins.link(hook, ifindex);
        let refused = |cause: String| AttachError::Attach {
            program: hook.program(),
            device: format!("the link pinned at {}", path.display()),
            cause,
        };
        let link: SchedClassifierLink = match PinnedLink::from_pin(&path) {
            Ok(pinned) => FdLink::from(pinned).try_into().map_err(|error: LinkError| refused(error.to_string()))?,
            Err(error) if link_errno(&error) == Some(libc::ENOENT) => return Ok(Switched::Absent),
            Err(error) => return Err(refused(error.to_string())),
        };
        let mut object = self.lock();
        let program = classifier(&mut object, hook)?;
        match program.attach_to_link(link) {
            Ok(id) => {
                // The pin keeps the link; what aya holds besides would only be one more descriptor.
                drop(program.take_link(id));
                Ok(Switched::Updated)
            }
            // tcx_link_update (kernel/bpf/tcx.c, 6.6): the device was unregistered. An index is used again only by a new device.
            Err(error) if program_errno(&error) == Some(libc::ENOLINK) => {
                pins::unpin(&path)?;
                Ok(Switched::Removed)
            }
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn attach_new(&self, pins: &PinDirectory, hook: Hook, device: &Device) -> Result<(), AttachError> {
        let program = hook.program();
        let refused = |cause: String| AttachError::Attach { program, device: device.name.clone(), cause };
        let found = nix::net::if_::if_nametoindex(device.name.as_str()).map_err(|errno| refused(errno.to_string()))?;
        if found != device.ifindex {
            return Err(AttachError::WrongDevice {
                program,
                name: device.name.clone(),
                expected: device.ifindex,
                found,
            });
        }
        let mut object = self.lock();
        let classifier = classifier(&mut object, hook)?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let link = classifier
            .attach_with_options(&device.name, direction(hook), options)
            .and_then(|id| classifier.take_link(id))
            .map_err(|error| refused(why(&error)))?;
        let link: FdLink = link.try_into().map_err(|error: LinkError| refused(error.to_string()))?;
        link.pin(pins.link(hook, device.ifindex)).map_err(|error| refused(format!("pin the link: {error}")))?;
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Ebpf> {
        // A panic while it was held leaves at worst a link unpinned, which the next attach repairs.
        self.object.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the program off the device. Neither needs to be there.
pub fn detach(pins: &PinDirectory, hook: Hook, ifindex: u32) -> Result<(), AttachError> {
    Ok(pins::unpin(&pins.link(hook, ifindex))?)
}

fn direction(hook: Hook) -> TcAttachType {
    match hook {
        Hook::PodOut | Hook::OverlayIn | Hook::UplinkIn => TcAttachType::Ingress,
        Hook::HostOut => TcAttachType::Egress,
    }
}

fn classifier(object: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, AttachError> {
    object
        .program_mut(hook.program())
        .and_then(|program: &mut Program| program.try_into().ok())
        .ok_or(AttachError::NoProgram(hook.program()))
}

fn why(error: &ProgramError) -> String {
    match program_errno(error) {
        Some(libc::EINVAL) => format!("{error}; TCX needs Linux 6.6"),
        Some(libc::EPERM) => format!("{error}; it takes CAP_BPF and CAP_NET_ADMIN"),
        _ => error.to_string(),
    }
}

fn link_errno(error: &LinkError) -> Option<i32> {
    match error {
        LinkError::SyscallError(SyscallError { io_error, .. }) => io_error.raw_os_error(),
        _ => None,
    }
}

fn program_errno(error: &ProgramError) -> Option<i32> {
    let cause: Option<&io::Error> = match error {
        ProgramError::SyscallError(SyscallError { io_error, .. }) | ProgramError::LoadError { io_error, .. } => {
            Some(io_error)
        }
        _ => None,
    };
    cause.and_then(io::Error::raw_os_error)
}

/// The pins in the directory of links that are no links of ours: a later version's, after a return to this one.
pub(super) fn remove_foreign(foreign: &[PathBuf]) -> Result<(), PinError> {
    foreign.iter().try_for_each(|path| pins::unpin(path))
}
