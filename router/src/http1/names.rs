//! The names of fields that the router acts upon.

macro_rules! known {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The fields that the router acts upon, so that a name is compared once, when its head is read.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// Any other.
            #[default]
            Other,
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Known {
            const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name, in lower case; empty for [`Known::Other`].
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

known! {
    /// RFC 9110 §7.2.
    Host = "host",
    /// RFC 9110 §7.6.1.
    Connection = "connection",
    /// RFC 9110 §8.6.
    ContentLength = "content-length",
    /// RFC 9112 §6.1.
    TransferEncoding = "transfer-encoding",
    /// What hop-by-hop parameters HTTP/1.0 had.
    KeepAlive = "keep-alive",
    /// What some clients sent instead of Connection.
    ProxyConnection = "proxy-connection",
    /// RFC 9110 §10.1.4: only `trailers` is of interest.
    Te = "te",
    /// RFC 9110 §6.6.2.
    Trailer = "trailer",
    /// RFC 9110 §7.8.
    Upgrade = "upgrade",
    /// RFC 7540 §3.2.1, which goes with an upgrade that is not done.
    Http2Settings = "http2-settings",
    /// RFC 9110 §10.1.1.
    Expect = "expect",
    /// RFC 6265.
    Cookie = "cookie",
    /// RFC 6265.
    SetCookie = "set-cookie",
    /// Never passed on: programs that make environment variables of fields take it for a setting (httpoxy).
    Proxy = "proxy",
    /// RFC 7239.
    Forwarded = "forwarded",
    /// The client's address, as proxies saw it.
    XForwardedFor = "x-forwarded-for",
    /// The host that the client asked for.
    XForwardedHost = "x-forwarded-host",
    /// The port that the client came to.
    XForwardedPort = "x-forwarded-port",
    /// The scheme that the client used.
    XForwardedProto = "x-forwarded-proto",
    /// `h2` where the client used it over TLS.
    XForwardedProtoVersion = "x-forwarded-proto-version",
    /// RFC 6797.
    StrictTransportSecurity = "strict-transport-security",
    /// RFC 9111 §5.2.
    CacheControl = "cache-control",
    /// RFC 9111 §5.3.
    Expires = "expires",
    /// RFC 9110 §8.8.3.
    Etag = "etag",
    /// RFC 9110 §8.8.2.
    LastModified = "last-modified",
    /// RFC 9110 §12.5.3.
    AcceptEncoding = "accept-encoding",
    /// RFC 9110 §8.4.
    ContentEncoding = "content-encoding",
    /// RFC 9110 §8.3.
    ContentType = "content-type",
    /// RFC 9110 §12.5.5.
    Vary = "vary",
    /// RFC 9110 §14.4.
    ContentRange = "content-range",
    /// RFC 6455 §11.3.1.
    SecWebsocketKey = "sec-websocket-key",
    /// RFC 6455 §11.3.3.
    SecWebsocketAccept = "sec-websocket-accept",
    /// What TLS certificates of clients said, by this router only.
    XSsl = "x-ssl",
    /// As above.
    XSslIssuer = "x-ssl-issuer",
    /// As above.
    XSslClientVerify = "x-ssl-client-verify",
    /// As above.
    XSslClientSerial = "x-ssl-client-serial",
    /// As above.
    XSslClientVersion = "x-ssl-client-version",
    /// As above.
    XSslClientSha1 = "x-ssl-client-sha1",
    /// As above.
    XSslClientDn = "x-ssl-client-dn",
    /// As above.
    XSslClientCn = "x-ssl-client-cn",
    /// As above.
    XSslClientNotBefore = "x-ssl-client-notbefore",
    /// As above.
    XSslClientNotAfter = "x-ssl-client-notafter",
    /// As above.
    XSslClientDer = "x-ssl-client-der",
}

/// Where to look for a name: its [`slot`], then the next ones up to an empty one (0, [`Known::Other`]).
const SLOTS: [Known; 256] = {
    let mut slots = [Known::Other; 256];
    let mut index = 0;
    while index < Known::ALL.len() {
        let known = Known::ALL[index];
        let mut at = slot(known.name().as_bytes());
        while !matches!(slots[at], Known::Other) {
            at = (at + 1) % slots.len();
        }
        slots[at] = known;
        index += 1;
    }
    slots
};

/// Length, first and last letter tell most names apart. `name` is not empty.
const fn slot(name: &[u8]) -> usize {
    let (first, last) = (name[0] | 0x20, name[name.len() - 1] | 0x20);
    (name.len() * 37 + first as usize * 11 + last as usize * 5) % 256
}

impl Known {
    /// Which one `name` is, whatever its case.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        if name.is_empty() {
            return Self::Other;
        }
        let mut at = slot(name);
        loop {
            let known = SLOTS[at];
            if known == Self::Other || name.eq_ignore_ascii_case(known.name().as_bytes()) {
                return known;
            }
            at = (at + 1) % SLOTS.len();
        }
    }

    /// Fields of one connection only (RFC 9110 §7.6.1), and what frames a message: never passed on as they came.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::Upgrade
                | Self::Http2Settings
                | Self::Proxy
        )
    }

    /// Fields that may not be in trailers: those that frame, route, or decide about a message (RFC 9110 §6.5.1).
    pub fn is_barred_from_trailers(self) -> bool {
        self.is_hop_by_hop()
            || self.is_about_the_client()
            || matches!(
                self,
                Self::Host
                    | Self::Trailer
                    | Self::Expect
                    | Self::Cookie
                    | Self::SetCookie
                    | Self::StrictTransportSecurity
                    | Self::CacheControl
                    | Self::ContentEncoding
                    | Self::ContentType
                    | Self::ContentRange
            )
    }

    /// What the router itself says about the certificate of a client (reference: `X-SSL*`).
    pub fn is_client_certificate(self) -> bool {
        self as u8 >= Self::XSsl as u8
    }

    /// What proxies say about who asked.
    pub fn is_about_the_client(self) -> bool {
        self.is_client_certificate()
            || matches!(
                self,
                Self::Forwarded
                    | Self::XForwardedFor
                    | Self::XForwardedHost
                    | Self::XForwardedPort
                    | Self::XForwardedProto
                    | Self::XForwardedProtoVersion
            )
    }
}
