//! The allocator's habits: a process that works on one thread and peaks at its start need not keep what it used there.

/// One arena for all threads. glibc gives each thread that allocates one of its own, up to eight a core, and a thread that has ended
/// leaves it behind; ours wait on disks and do not compete. To be called before the first thread.
pub fn keep_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt changes a parameter of the allocator, under its own lock; an unknown one is ignored.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free heap memory back to the kernel. Loading programs takes ten times what running does: the object's sections, the
/// verifier's log.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches free memory only, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
