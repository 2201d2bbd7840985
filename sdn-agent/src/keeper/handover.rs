//! How a keeper gives its sockets to the next one, over `keeper.sock`.
//!
//! ```text
//! new → old   culvert-keeper 1 take
//!             (the old one stops its role)
//! old → new   culvert-keeper 1 sockets NAME NAME …      with as many descriptors (SCM_RIGHTS)
//! new → old   culvert-keeper 1 taken
//!             (the old one ends; without this line it goes on and starts its role again)
//! ```
//!
//! Each side believes only a peer of its own user (SO_PEERCRED). Names that the new one does not know are closed, names that
//! are missing it opens itself, so versions with other sockets can follow each other.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg, sockopt};

use super::{GRACE, Sockets};
use crate::kernel::descriptors;

const TAKE: &str = "culvert-keeper 1 take\n";
const SOCKETS: &str = "culvert-keeper 1 sockets";
const TAKEN: &str = "culvert-keeper 1 taken\n";

/// Most descriptors of one message; the kernel's own limit is 253.
const MOST_SOCKETS: usize = 32;
/// Longest line.
const LONGEST_LINE: usize = 2048;
/// A peer on the same machine that takes longer than this for a line hangs.
const PATIENCE: Duration = Duration::from_secs(2);

// === the new keeper's side ===

/// Asks the keeper at `path` for its sockets. `None`: nobody listens there. Dropping the answer's stream before [`confirm`] leaves
/// the sockets with the old keeper.
pub(super) fn take(path: &Path) -> io::Result<Option<(Sockets, UnixStream)>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error),
    };
    check_peer(&stream)?;
    // The old one first stops its role, which may take all of its grace.
    stream.set_read_timeout(Some(GRACE + 2 * PATIENCE))?;
    stream.write_all(TAKE.as_bytes())?;
    let sockets = receive(&stream)?;
    Ok(Some((sockets, stream)))
}

/// Tells the old keeper that its sockets have arrived: it ends.
pub(super) fn confirm(mut stream: UnixStream) -> io::Result<()> {
    stream.write_all(TAKEN.as_bytes())
}

fn receive(stream: &UnixStream) -> io::Result<Sockets> {
    let mut line = [0; LONGEST_LINE];
    let mut space = cmsg_space!([RawFd; MOST_SOCKETS]);
    let mut buffers = [IoSliceMut::new(&mut line)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let length = message.bytes;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                descriptors.push(descriptors::adopt(number)?);
            }
        }
    }
    if length == 0 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ended before it gave them"));
    }
    let text = std::str::from_utf8(&line[..length]).map_err(|_| refused("its answer is no text"))?;
    let names = text.strip_suffix('\n').and_then(|text| text.strip_prefix(SOCKETS));
    let names: Vec<&str> = names.ok_or_else(|| refused("it speaks another protocol"))?.split_whitespace().collect();
    if names.len() != descriptors.len() {
        return Err(refused("it named more or fewer sockets than it passed"));
    }
    Ok(names.into_iter().map(str::to_owned).zip(descriptors).collect())
}

// === the old keeper's side ===

/// Reads the request of a connection to keeper.sock. An error is the peer's fault.
pub(super) fn read_request(stream: &UnixStream) -> io::Result<()> {
    check_peer(stream)?;
    expect_line(stream, TAKE)
}

/// Passes the sockets and waits for the confirmation. After an error they are still ours to serve.
pub(super) fn give(stream: &UnixStream, sockets: &Sockets) -> io::Result<()> {
    let (names, numbers): (Vec<&str>, Vec<RawFd>) = sockets.iter().map(|(name, fd)| (name, fd.as_raw_fd())).unzip();
    let line = format!("{SOCKETS} {}\n", names.join(" "));
    let rights = [ControlMessage::ScmRights(&numbers)];
    let sent = sendmsg::<()>(
        stream.as_fd().as_raw_fd(),
        &[IoSlice::new(line.as_bytes())],
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    if sent != line.len() {
        return Err(refused("only a part of the message could be sent"));
    }
    expect_line(stream, TAKEN)
}

fn expect_line(mut stream: &UnixStream, want: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = vec![0; want.len()];
    stream.read_exact(&mut line)?;
    if line == want.as_bytes() { Ok(()) } else { Err(refused("it speaks another protocol")) }
}

fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = nix::sys::socket::getsockopt(stream, sockopt::PeerCredentials)?;
    if peer.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::PermissionDenied, format!("process {} there has user id {}", peer.pid(), peer.uid())))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// The new keeper's `take` against an old one that is `old`.
    fn take_from(old: impl FnOnce(UnixStream) + Send + 'static) -> io::Result<Option<(Sockets, UnixStream)>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keeper.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let old = thread::spawn(move || old(listener.accept().unwrap().0));
        let taken = take(&path);
        old.join().unwrap();
        taken
    }

    fn pipe_named(name: &str) -> (Sockets, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        ([(name.to_owned(), OwnedFd::from(writer))].into_iter().collect(), reader)
    }

    #[test]
    fn sockets_arrive_with_their_names() {
        let (sockets, mut reader) = pipe_named("cni");
        let (done, was_done) = std::sync::mpsc::channel();
        let (taken, stream) = take_from(move |stream| {
            read_request(&stream).unwrap();
            thread::spawn(move || done.send(give(&stream, &sockets).map_err(|error| error.kind())));
        })
        .unwrap()
        .unwrap();
        assert_eq!(taken.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["cni"]);
        confirm(stream).unwrap();
        assert_eq!(was_done.recv().unwrap(), Ok(()));
        let mut end = taken;
        io::PipeWriter::from(end.remove("cni").unwrap()).write_all(b"it is the same").unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "it is the same");
    }

    #[test]
    fn a_new_keeper_that_goes_away_leaves_the_sockets_behind() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let (sockets, _reader) = pipe_named("cni");
        give(&ours, &sockets).unwrap_err();

        let (ours, theirs) = UnixStream::pair().unwrap();
        let new = thread::spawn(move || drop(receive(&theirs).unwrap()));
        assert_eq!(
            give(&ours, &sockets).unwrap_err().kind(),
            ErrorKind::UnexpectedEof,
            "it was killed before it confirmed"
        );
        new.join().unwrap();
    }

    #[test]
    fn strangers_are_not_understood() {
        for line in
            ["culvert-keeper 2 sockets\n", "culvert-keeper 1 sockets cni\n", "hello\n", "culvert-keeper 1 sockets", ""]
        {
            let taken = take_from(move |mut stream| {
                read_request(&stream).unwrap();
                stream.write_all(line.as_bytes()).unwrap();
            });
            assert!(taken.is_err(), "{line:?}");
        }
        for line in ["GET / HTTP/1.1\r\n\r\n         ", "culvert-keeper 9 take\n", "cul"] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(line.as_bytes()).unwrap();
            drop(theirs);
            read_request(&ours).unwrap_err();
        }
        assert!(take(Path::new("/nowhere/keeper.sock")).unwrap().is_none());
    }
}
