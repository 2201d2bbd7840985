//! A packet as the kernel hands it over. Stages that only read know [`Frame`]; those that change or send it know [`Skb`].

#[cfg(target_arch = "bpf")]
use core::arch::asm;
use core::mem::size_of;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT, xdp_action, xdp_md},
    helpers::{
        bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_xdp_get_buff_len,
        bpf_xdp_load_bytes,
    },
};
use sdn_common::{Be16, Reason};

use crate::verdict::{End, Stage};

/// Length of an Ethernet header.
pub const ETHERNET: u32 = 14;

/// What parsing and the verdict ask of a packet, be it an skb or an XDP buffer.
pub trait Frame: Copy {
    /// The action that leaves it to the kernel as it is.
    const PASS: i32;
    /// The action that drops it.
    const DROP: i32;

    /// EtherType. Of a frame with a VLAN tag that of the tag, unless the device has taken it off and told the kernel only.
    fn ethertype(&self) -> Be16;
    /// Bytes from the Ethernet header on.
    fn len(&self) -> u32;
    /// Payload of one segment where this stands for several (GSO), else 0.
    fn segment(&self) -> u32;
    /// Where `len` bytes at `offset` stand, if they do so in one piece: headers nearly always do. Spares the helper, whose own
    /// code is as far from the processor's caches as the rest of the kernel.
    fn direct(&self, offset: u32, len: u32) -> Option<Direct>;

    /// Copies bytes of the packet.
    ///
    /// # Safety
    /// `into` is valid for writes of `len` bytes, and any bytes are a valid value of what is there.
    unsafe fn load_bytes(&self, offset: u32, into: *mut u8, len: u32) -> Stage<()>;

    /// Copies the packet's first `len` bytes: a half word, then words.
    ///
    /// # Safety
    /// `into` is valid for writes of `len` bytes, and two bytes on it is aligned to four; any bytes are a valid value there.
    #[inline(always)]
    unsafe fn read_head(&self, into: *mut u8, len: u32) -> Stage<()> {
        let Some(direct) = self.direct(0, len) else {
            // SAFETY: the caller's promise.
            return unsafe { self.load_bytes(0, into, len) };
        };
        // SAFETY: within `len` on both sides; alignment is the caller's promise.
        unsafe {
            into.cast::<u16>().write(direct.half(0));
            for offset in (2..len as usize).step_by(4) {
                into.add(offset).cast::<u32>().write(direct.word(offset));
            }
        }
        Ok(())
    }

    /// Reads words of the packet, in its order.
    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Stage<[u32; N]> {
        let mut words = [0; N];
        if let Some(direct) = self.direct(offset, 4 * N as u32) {
            for (index, word) in words.iter_mut().enumerate() {
                // SAFETY: within the bytes asked for.
                *word = unsafe { direct.word(4 * index) };
            }
            return Ok(words);
        }
        // SAFETY: words, and as many bytes as they have.
        unsafe { self.load_bytes(offset, words.as_mut_ptr().cast(), 4 * N as u32)? };
        Ok(words)
    }

    /// Fills `into` from the packet. `T` is a header: plain bytes, any of which are valid.
    #[inline(always)]
    fn load<T: Plain>(&self, offset: u32, into: &mut T) -> Stage<()> {
        // SAFETY: `into` is a T, and T is Plain.
        unsafe { self.load_bytes(offset, core::ptr::from_mut(into).cast(), size_of::<T>() as u32) }
    }
}

/// Types of which any bytes are a value.
///
/// # Safety
/// No padding that matters, no invalid bit pattern.
pub unsafe trait Plain: Copy {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for Be16 {}
// SAFETY: as above.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// A packet at a traffic-control hook.
#[derive(Clone, Copy)]
pub struct Skb(*mut __sk_buff);

/// A packet at an XDP hook.
#[derive(Clone, Copy)]
pub struct Xdp(*mut xdp_md);

/// EtherType of a VLAN tag (IEEE 802.1Q).
const VLAN: Be16 = Be16::new(0x8100);

/// Beyond it no header is looked for in place.
const NEAR: u32 = 512;

/// `PACKET_HOST` (include/uapi/linux/if_packet.h): for this machine.
const PACKET_HOST: u32 = 0;

impl Skb {
    /// The packet of a program's context.
    #[inline(always)]
    pub const fn new(skb: *mut __sk_buff) -> Self {
        Self(skb)
    }

    /// The kernel's handle, for helpers.
    #[inline(always)]
    pub const fn raw(self) -> *mut __sk_buff {
        self.0
    }

    /// The device at whose hook the packet is.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        // SAFETY: the context is valid while the program runs; the verifier checks each access. So in the methods below.
        unsafe { (*self.0).ifindex }
    }

    /// The device that the packet came in by; 0 if it comes from a socket of this machine.
    #[inline(always)]
    pub fn ingress_ifindex(self) -> u32 {
        // SAFETY: see `ifindex`.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Word `index` of the control buffer.
    #[inline(always)]
    pub fn cb<const INDEX: usize>(self) -> u32 {
        // SAFETY: see `ifindex`.
        unsafe { (*self.0).cb[INDEX] }
    }

    /// Overwrites bytes of the packet, checksums untouched.
    #[inline(always)]
    pub fn store<T: Plain>(self, offset: u32, value: &T) -> Stage<()> {
        // SAFETY: `value` is a T, and T is Plain.
        unsafe { self.store_bytes(offset, core::ptr::from_ref(value).cast(), size_of::<T>() as u32) }
    }

    /// Overwrites `len` bytes of the packet, checksums untouched.
    ///
    /// # Safety
    /// `from` is valid for reads of `len` bytes.
    #[inline(always)]
    pub unsafe fn store_bytes(self, offset: u32, from: *const u8, len: u32) -> Stage<()> {
        // SAFETY: the caller's promise.
        helper(unsafe { bpf_skb_store_bytes(self.0, offset, from.cast(), len, 0) })
    }

    /// Overwrites the packet's first `len` bytes, checksums untouched: a half word, then words.
    ///
    /// # Safety
    /// `from` is valid for reads of `len` bytes, and two bytes on it is aligned to four.
    #[inline(always)]
    pub unsafe fn write_head(self, from: *const u8, len: u32) -> Stage<()> {
        let Some(direct) = self.direct(0, len) else {
            // SAFETY: the caller's promise.
            return unsafe { self.store_bytes(0, from, len) };
        };
        // SAFETY: within `len` on both sides; alignment is the caller's promise.
        unsafe {
            direct.set_half(0, from.cast::<u16>().read());
            for offset in (2..len as usize).step_by(4) {
                direct.set_word(offset, from.add(offset).cast::<u32>().read());
            }
        }
        Ok(())
    }

    /// Cuts or lengthens the packet to `len` bytes.
    #[inline(always)]
    pub fn resize(self, len: u32) -> Stage<()> {
        // SAFETY: see `ifindex`.
        helper(unsafe { bpf_skb_change_tail(self.0, len, 0) })
    }

    /// Makes the stack take the packet for its own, whatever its Ethernet destination.
    #[inline(always)]
    pub fn claim(self) -> Stage<()> {
        // SAFETY: see `ifindex`.
        unsafe {
            if (*self.0).pkt_type == PACKET_HOST {
                return Ok(());
            }
            helper(bpf_skb_change_type(self.0, PACKET_HOST))
        }
    }
}

impl Frame for Skb {
    const PASS: i32 = TC_ACT_OK;
    const DROP: i32 = TC_ACT_SHOT;

    /// As the kernel knows it: it keeps a VLAN tag apart.
    #[inline(always)]
    fn ethertype(&self) -> Be16 {
        // SAFETY: see `ifindex`.
        if unsafe { (*self.0).vlan_present } != 0 {
            return VLAN;
        }
        // SAFETY: see `ifindex`.
        Be16(unsafe { (*self.0).protocol } as u16)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: see `ifindex`.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        // SAFETY: see `ifindex`.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn direct(&self, offset: u32, len: u32) -> Option<Direct> {
        // SAFETY: see `ifindex`.
        let (start, end) = unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) };
        Direct::within(start, end, offset, len)
    }

    #[inline(always)]
    unsafe fn load_bytes(&self, offset: u32, into: *mut u8, len: u32) -> Stage<()> {
        // SAFETY: the caller's promise.
        match unsafe { bpf_skb_load_bytes(self.0.cast(), offset, into.cast(), len) } {
            0 => Ok(()),
            _ => Err(End::drop(Reason::Malformed)),
        }
    }
}

impl Xdp {
    /// The packet of a program's context.
    #[inline(always)]
    pub const fn new(xdp: *mut xdp_md) -> Self {
        Self(xdp)
    }
}

impl Frame for Xdp {
    const PASS: i32 = xdp_action::XDP_PASS.cast_signed();
    const DROP: i32 = xdp_action::XDP_DROP.cast_signed();

    /// As it stands in the frame; zero, which is nobody's, where there is none.
    #[inline(always)]
    fn ethertype(&self) -> Be16 {
        match self.direct(ETHERNET - 2, 2) {
            // SAFETY: the two bytes asked for.
            Some(direct) => Be16(unsafe { direct.half(0) }),
            None => Be16(0),
        }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: see `direct`.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }

    /// What has been put together from several packets has become an skb by then.
    #[inline(always)]
    fn segment(&self) -> u32 {
        0
    }

    /// Of a packet in several buffers only the first is in place.
    #[inline(always)]
    fn direct(&self, offset: u32, len: u32) -> Option<Direct> {
        // SAFETY: the context is valid while the program runs; the verifier checks each access.
        let (start, end) = unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) };
        Direct::within(start, end, offset, len)
    }

    #[inline(always)]
    unsafe fn load_bytes(&self, offset: u32, into: *mut u8, len: u32) -> Stage<()> {
        // SAFETY: the caller's promise.
        match unsafe { bpf_xdp_load_bytes(self.0, offset, into.cast(), len) } {
            0 => Ok(()),
            _ => Err(End::drop(Reason::Malformed)),
        }
    }
}

/// Bytes of the packet in place, at whatever alignment. Rust's own loads of such are byte by byte on this target: stack slots
/// have to be aligned for the verifier, so the compiler may not believe otherwise of anything. Packet bytes need not be.
#[derive(Clone, Copy)]
pub struct Direct(usize);

/// Writes an access to the packet: as the one instruction it is, or for hosts, where the crate is only checked, in Rust.
macro_rules! access {
    ($load:ident, $store:ident, $t:ty, $width:literal) => {
        /// Reads a value at an offset.
        ///
        /// # Safety
        /// Within the bytes that were asked for.
        #[inline(always)]
        pub unsafe fn $load(self, offset: usize) -> $t {
            #[cfg(target_arch = "bpf")]
            {
                let value: u64;
                // SAFETY: reads the packet only, where the caller says.
                unsafe {
                    asm!(concat!("{0} = *(", $width, " *)({1} + 0)"), out(reg) value, in(reg) self.0 + offset,
                        options(pure, readonly, nostack));
                }
                value as $t
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller's promise.
            unsafe {
                core::ptr::with_exposed_provenance::<$t>(self.0 + offset).read_unaligned()
            }
        }

        /// Writes a value at an offset. The packet is this program's to write: the verifier has it made so first
        /// (`bpf_unclone_prologue`, net/core/filter.c).
        ///
        /// # Safety
        /// Within the bytes that were asked for.
        #[inline(always)]
        pub unsafe fn $store(self, offset: usize, value: $t) {
            #[cfg(target_arch = "bpf")]
            // SAFETY: writes the packet only, where the caller says.
            unsafe {
                asm!(concat!("*(", $width, " *)({0} + 0) = {1}"), in(reg) self.0 + offset, in(reg) u64::from(value),
                    options(nostack));
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller's promise.
            unsafe {
                core::ptr::with_exposed_provenance_mut::<$t>(self.0 + offset).write_unaligned(value)
            };
        }
    };
}

impl Direct {
    access!(word, set_word, u32, "u32");
    access!(half, set_half, u16, "u16");

    #[inline(always)]
    fn within(start: usize, end: usize, offset: u32, len: u32) -> Option<Self> {
        // The verifier wants a bound before it adds (its MAX_PACKET_OFF).
        if offset > NEAR {
            return None;
        }
        let at = start + offset as usize;
        (at + len as usize <= end).then_some(Self(at))
    }
}

/// A helper's answer as a stage's.
#[inline(always)]
pub fn helper(code: i64) -> Stage<()> {
    match code {
        0 => Ok(()),
        _ => Err(End::drop(Reason::HelperFailed)),
    }
}
