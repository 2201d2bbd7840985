//! Programs on their hooks. A link is pinned by hook and interface, and switched to a new program in place, so that there is no
//! moment without one.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, Program, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode as AyaXdpMode};
use aya::sys::SyscallError;
use sdn_common::Hook;

use super::pins::{self, PinDirectory, PinError};

/// How long, and how often, to wait for the kernel to take off an XDP program of another mode. Once, at a start with another mode.
const LET_GO_PAUSE: Duration = Duration::from_millis(5);
const LET_GO_LOOKS: u32 = 100;

/// A network device, by the two things it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Its name, which the kernel resolves in this process's network namespace.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
}

/// Where XDP programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the kernel's receive path, after it has made a socket buffer: on any device.
    #[default]
    Generic,
    /// In the device's driver, before that: on devices whose driver can. A veth's peer loses TSO by it.
    Native,
}

/// The loaded programs. Shared, because aya reads a program's counters only through the program itself.
#[derive(Clone, Debug)]
pub struct Programs {
    pub(super) object: Arc<Mutex<Ebpf>>,
    pub(super) xdp: XdpMode,
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
        let same_mode = direction(hook).is_some() || self.keeps_mode(pins, device)?;
        if same_mode && self.switch(pins, hook, device.ifindex)? == Switched::Updated {
            return Ok(());
        }
        self.attach_new(pins, hook, device)
    }

    /// Whether a pinned XDP link is of the mode that is wanted. The kernel does not say of which one is, and does not change it; but
    /// it says what stands in the way of another link (dev_xdp_attach in net/core/dev.c): one of the same mode, EBUSY, or one of the
    /// other, EEXIST. That one is taken off.
    fn keeps_mode(&self, pins: &PinDirectory, device: &Device) -> Result<bool, AttachError> {
        let path = pins.link(Hook::UplinkXdp, device.ifindex);
        if !path.exists() {
            return Ok(false);
        }
        let mut object = self.lock();
        match attach_xdp(&mut object, device.ifindex, self.xdp) {
            Err(Refused { errno: Some(libc::EEXIST), .. }) => {
                pins::unpin(&path)?;
                // The kernel takes the link off some time after its pin is gone (bpf_free_inode, kernel/bpf/inode.c: after RCU).
                let in_the_way = |object: &mut Ebpf| {
                    let refused = attach_xdp(object, device.ifindex, self.xdp).err();
                    refused.is_some_and(|refused| refused.errno == Some(libc::EEXIST))
                };
                for _ in 0..LET_GO_LOOKS {
                    if !in_the_way(&mut object) {
                        break;
                    }
                    std::thread::sleep(LET_GO_PAUSE);
                }
                Ok(false)
            }
            // Nothing is in the way: the pinned link is a lost device's. What was just attached goes with its descriptor.
            Ok(_) => Ok(false),
            Err(_) => Ok(true),
        }
    }

    /// Switches a pinned link to the loaded program; removes a pin whose device is gone.
    pub(super) fn switch(&self, pins: &PinDirectory, hook: Hook, ifindex: u32) -> Result<Switched, AttachError> {
        let path = pins.link(hook, ifindex);
        let refused = |cause: String| AttachError::Attach {
            program: hook.program(),
            device: format!("the link pinned at {}", path.display()),
            cause,
        };
        let link = match PinnedLink::from_pin(&path) {
            Ok(pinned) => FdLink::from(pinned),
            Err(error) if link_errno(&error) == Some(libc::ENOENT) => return Ok(Switched::Absent),
            Err(error) => return Err(refused(error.to_string())),
        };
        match update(&mut self.lock(), hook, link) {
            Ok(()) => Ok(Switched::Updated),
            // tcx_link_update (kernel/bpf/tcx.c, 6.6) and bpf_xdp_link_update (net/core/dev.c): the device was unregistered. An index
            // is used again only by a new device.
            Err(Refused { errno: Some(libc::ENOLINK), .. }) => {
                pins::unpin(&path)?;
                Ok(Switched::Removed)
            }
            Err(Refused { cause, .. }) => Err(refused(cause)),
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
        let link = match direction(hook) {
            Some(direction) => attach_tcx(classifier(&mut object, hook)?, &device.name, direction),
            None => attach_xdp(&mut object, device.ifindex, self.xdp),
        };
        let link = link.map_err(|error| refused(error.cause))?;
        let path = pins.link(hook, device.ifindex);
        if direction(hook).is_none() {
            // What `keeps_mode` found to be a lost device's.
            pins::unpin(&path)?;
        }
        link.pin(path).map_err(|error| refused(format!("pin the link: {error}")))?;
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

/// Which way packets go at a TCX hook; `None` for XDP, which only knows those that come in.
fn direction(hook: Hook) -> Option<TcAttachType> {
    match hook {
        Hook::PodOut | Hook::OverlayIn | Hook::UplinkIn => Some(TcAttachType::Ingress),
        Hook::HostOut => Some(TcAttachType::Egress),
        Hook::UplinkXdp => None,
    }
}

/// What the kernel said to a link.
struct Refused {
    errno: Option<i32>,
    cause: String,
}

fn attach_tcx(program: &mut SchedClassifier, device: &str, direction: TcAttachType) -> Result<FdLink, Refused> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(device, direction, options)?;
    Ok(program.take_link(id)?.try_into()?)
}

fn attach_xdp(object: &mut Ebpf, ifindex: u32, mode: XdpMode) -> Result<FdLink, Refused> {
    let program = xdp(object, Hook::UplinkXdp)?;
    let aya_mode = match mode {
        XdpMode::Generic => AyaXdpMode::Skb,
        XdpMode::Native => AyaXdpMode::Driver,
    };
    let attached = program.attach_to_if_index(ifindex, aya_mode).and_then(|id| program.take_link(id));
    let link = attached.map_err(|error| {
        let hint = match (program_errno(&error), mode) {
            (Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE), XdpMode::Native) => {
                "; the device's driver has no native XDP, or none with this MTU: set uplink-xdp to generic or off"
            }
            (Some(libc::EBUSY | libc::EEXIST), _) => "; somebody else's XDP program is on the device",
            _ => "",
        };
        let refused = Refused::from(error);
        Refused { cause: format!("{}{hint}", refused.cause), ..refused }
    })?;
    Ok(link.try_into()?)
}

/// Makes a link run the loaded program. The pin keeps the link; what aya holds besides would only be one more descriptor.
fn update(object: &mut Ebpf, hook: Hook, link: FdLink) -> Result<(), Refused> {
    if direction(hook).is_some() {
        let program = classifier(object, hook)?;
        let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
        drop(program.take_link(id));
    } else {
        let program = xdp(object, hook)?;
        let id = program.attach_to_link(XdpLink::try_from(link)?)?;
        drop(program.take_link(id));
    }
    Ok(())
}

fn classifier(object: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, AttachError> {
    object
        .program_mut(hook.program())
        .and_then(|program: &mut Program| program.try_into().ok())
        .ok_or(AttachError::NoProgram(hook.program()))
}

fn xdp(object: &mut Ebpf, hook: Hook) -> Result<&mut Xdp, AttachError> {
    object
        .program_mut(hook.program())
        .and_then(|program: &mut Program| program.try_into().ok())
        .ok_or(AttachError::NoProgram(hook.program()))
}

impl From<ProgramError> for Refused {
    fn from(error: ProgramError) -> Self {
        let errno = program_errno(&error);
        let cause = match errno {
            Some(libc::EINVAL) => format!("{}; TCX needs Linux 6.6", super::chain(&error)),
            Some(libc::EPERM) => format!("{}; it takes CAP_BPF and CAP_NET_ADMIN", super::chain(&error)),
            _ => super::chain(&error),
        };
        Self { errno, cause }
    }
}

impl From<AttachError> for Refused {
    fn from(error: AttachError) -> Self {
        Self { errno: None, cause: error.to_string() }
    }
}

impl From<LinkError> for Refused {
    fn from(error: LinkError) -> Self {
        Self { errno: link_errno(&error), cause: error.to_string() }
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
