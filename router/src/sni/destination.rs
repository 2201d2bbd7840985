//! Where a connection goes by the name in its ClientHello.

use std::sync::Arc;

use tokio::{io::AsyncWriteExt, sync::OwnedSemaphorePermit};

use super::{ClientHello, read};
use crate::{
    listen::{Door, Identified, more},
    server::{Buffer, Core, Deadline},
    session::{Connection, Io, Unopened},
    table::{Backend, Certificate, ClientAuthority, Sni},
};

/// Where a connection goes.
pub enum Destined {
    /// To a pod, as it is.
    Pod(Passthrough),
    /// TLS ends here.
    Here(Terminated),
    /// There is no TLS.
    Plain(Unopened),
}

/// A connection that goes to a pod as it is.
pub struct Passthrough {
    /// The connection.
    pub io: Io,
    /// Its first bytes.
    pub buffer: Buffer,
    /// Who, and where to.
    pub connection: Connection,
    /// Whose it is.
    pub backend: Arc<Backend>,
    /// Counts it, until dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// A connection whose TLS ends here.
pub struct Terminated {
    /// The connection, and its first bytes.
    pub stream: tokio::net::TcpStream,
    /// What was read of it.
    pub first: Vec<u8>,
    /// Who, and where to.
    pub connection: Connection,
    /// The name that was asked for.
    pub name: Option<String>,
    /// What is shown.
    pub certificate: Arc<Certificate>,
    /// Which client certificates are taken.
    pub authority: Option<Arc<ClientAuthority>>,
    /// Counts it, until dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// A fatal `unrecognized_name` (RFC 6066 §3), so that the client can say why.
const UNRECOGNIZED: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Reads the ClientHello of a TLS connection and finds where it goes. `None`: nowhere, and it was told so.
pub async fn destination(core: &Core, identified: Identified) -> Option<Destined> {
    let Identified { mut io, mut buffer, connection, door, permit } = identified;
    if door == Door::Http {
        return Some(Destined::Plain(Unopened { io, buffer, connection, permit }));
    }
    let patience = core.table().settings.inspect_delay;
    let mut deadline = Deadline::new(connection.accepted, patience);
    let hello = loop {
        match if buffer.is_empty() { Ok(None) } else { read(buffer.filled()) } {
            Ok(Some(hello)) => break hello,
            Ok(None) if more(&mut io, &mut buffer, &mut deadline).await => {}
            Ok(None) => return None,
            Err(fault) => {
                tracing::debug!(client = %connection.client, %fault, "refusing a connection");
                core.shared.stats.denied(door);
                return None;
            }
        }
    };
    let Some((found, authority)) = look_up(core, &hello) else {
        tracing::debug!(client = %connection.client, name = ?hello.name, "no route or certificate for this name");
        core.shared.stats.denied(door);
        // The connection ends whether or not the client hears of it.
        let _ = io.write_all(&UNRECOGNIZED).await;
        return None;
    };
    Some(match (found, io) {
        (Sni::Passthrough(backend), io) => Destined::Pod(Passthrough { io, buffer, connection, backend, permit }),
        (Sni::Terminate(certificate), Io::Plain(stream)) => {
            let first = buffer.filled().to_vec();
            Destined::Here(Terminated { stream, first, connection, name: hello.name, certificate, authority, permit })
        }
        (Sni::Terminate(_), _) => return None,
    })
}

fn look_up(core: &Core, hello: &ClientHello) -> Option<(Sni, Option<Arc<ClientAuthority>>)> {
    let table = core.table();
    let Some(name) = &hello.name else {
        let certificate = table.default_certificate.clone().filter(|_| !table.settings.strict_sni)?;
        return Some((Sni::Terminate(certificate), None));
    };
    if table.settings.strict_sni && !table.knows(name) {
        return None;
    }
    Some((table.sni(name)?, table.client_authority(name).cloned()))
}
