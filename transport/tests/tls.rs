//! TLS over real sockets: who gets in, who does not, and that no one holds up others.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crawlwire_transport::{
    CloseReason, Connection, ConnectionId, Endpoint, Limits, Line, ListenOptions, Listener, Peer, Refused, Stream,
    TlsClient, TlsError, TlsServer,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// An authority, a server and a client it vouches for, as files.
struct Files {
    dir: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let files = Self {
            dir: TempDir::new().expect("a directory"),
            authority: CertifiedIssuer::self_signed(params, key).expect("signed"),
        };
        files.write("ca.pem", &files.authority.pem());
        files.issue("server", &["localhost"]);
        files.issue("client", &[]);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.path(name), content).expect("written");
        self.path(name)
    }

    fn issue(&self, name: &str, hosts: &[&str]) {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        if name == "server" {
            params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        }
        params
            .distinguished_name
            .push(DnType::CommonName, format!("the {name}"));
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn server(&self, client_ca: bool) -> TlsServer {
        let ca = self.path("ca.pem");
        let ca = client_ca.then_some(ca.as_path());
        TlsServer::load(&self.path("server.pem"), &self.path("server.key"), ca).expect("loaded")
    }

    fn client(&self) -> TlsClient {
        TlsClient::load(&self.path("ca.pem")).expect("loaded")
    }

    fn known_client(&self) -> TlsClient {
        let (certificate, key) = (self.path("client.pem"), self.path("client.key"));
        self.client().showing(&certificate, &key).expect("loaded")
    }
}

async fn listen(tls: TlsServer, handshake_timeout: Duration) -> (Arc<Listener>, Endpoint) {
    let options = ListenOptions {
        tls: Some(tls),
        handshake_timeout,
        ..ListenOptions::default()
    };
    let endpoint = "tcp://127.0.0.1:0".parse().expect("an endpoint");
    let listener = Listener::bind(&endpoint, &options).await.expect("bound");
    let endpoint = listener.local_addr();
    (Arc::new(listener), endpoint)
}

async fn plain(endpoint: &Endpoint) -> TcpStream {
    let Endpoint::Tcp { host, port } = endpoint else {
        panic!("{endpoint} is not TCP");
    };
    TcpStream::connect((host.as_str(), *port)).await.expect("connected")
}

async fn next(listener: &Listener) -> Result<(Stream, Peer), Refused> {
    timeout(PATIENCE, listener.next()).await.expect("in time")
}

/// A client gets in and one line goes each way.
async fn talk(listener: &Listener, endpoint: &Endpoint, client: &TlsClient) -> Peer {
    let (ours, theirs) = tokio::join!(next(listener), Stream::connect_tls(endpoint, client));
    let (stream, peer) = ours.expect("let in");
    let mut theirs = theirs.expect("connected");
    let mut ours = Connection::open(stream, peer.clone(), ConnectionId(1), Limits::default());
    let writer = tokio::spawn(ours.writer.run());
    theirs.write_all(b"hello\n").await.expect("sent");
    assert_eq!(ours.reader.recv().await, Ok(Line::Complete("hello".into())));
    ours.handle.try_send("welcome\n".into()).expect("room");
    ours.handle.close(CloseReason::ServerShutdown);
    let mut text = String::new();
    theirs.read_to_string(&mut text).await.expect("ended in good order");
    assert_eq!(text, "welcome\n");
    writer.await.expect("no panic");
    peer
}

fn refused(outcome: Result<(Stream, Peer), Refused>) -> Refused {
    let refused = outcome.expect_err("refused");
    assert_eq!(refused.reason, CloseReason::TlsFailed);
    assert!(matches!(refused.peer, Peer::Tcp(_)));
    refused
}

#[tokio::test]
async fn lines_go_both_ways_and_the_peer_is_known_as_encrypted() {
    let files = Files::new();
    let (listener, endpoint) = listen(files.server(false), PATIENCE).await;
    let Peer::Tcp(peer) = talk(&listener, &endpoint, &files.client()).await else {
        panic!("not TCP");
    };
    assert_eq!((peer.tls, peer.subject), (true, None));
    // Another name, where the address says nothing.
    let named = files.client().expecting("localhost").expect("a name");
    talk(&listener, &endpoint, &named).await;
    // What a certificate is shown for without being asked.
    talk(&listener, &endpoint, &files.known_client()).await;
}

#[tokio::test]
async fn a_server_that_asks_learns_who_it_is_and_refuses_the_others() {
    let files = Files::new();
    let (listener, endpoint) = listen(files.server(true), PATIENCE).await;
    let Peer::Tcp(peer) = talk(&listener, &endpoint, &files.known_client()).await else {
        panic!("not TCP");
    };
    let subject = peer.subject.clone().expect("shown");
    assert!(
        subject.contains("CN=the client") && subject.contains("O=Example"),
        "{subject}"
    );
    assert!(Peer::Tcp(peer).to_string().starts_with("tls 127.0.0.1:"));

    let stranger = Files::new();
    let (certificate, key) = (stranger.path("client.pem"), stranger.path("client.key"));
    let stranger = files.client().showing(&certificate, &key).expect("loaded");
    for client in [files.client(), stranger] {
        let (outcome, mut stream) = tokio::join!(next(&listener), Stream::connect_tls(&endpoint, &client));
        refused(outcome);
        // In TLS 1.3 a client learns it with its first read.
        if let Ok(stream) = &mut stream {
            assert!(stream.read_u8().await.is_err());
        }
    }
    talk(&listener, &endpoint, &files.known_client()).await;
}

#[tokio::test]
async fn a_client_trusts_nobody_else() {
    let files = Files::new();
    let (listener, endpoint) = listen(files.server(false), PATIENCE).await;
    let stranger = Files::new().client();
    let misnamed = files.client().expecting("example.org").expect("a name");
    for client in [stranger, misnamed] {
        let (outcome, stream) = tokio::join!(next(&listener), Stream::connect_tls(&endpoint, &client));
        refused(outcome);
        stream.expect_err("not trusted");
    }
}

#[tokio::test]
async fn who_stalls_holds_up_nobody_and_is_given_up() {
    let files = Files::new();
    let limit = Duration::from_millis(300);
    let (listener, endpoint) = listen(files.server(false), limit).await;
    let stalled = [plain(&endpoint).await, plain(&endpoint).await];
    let mut chatter = plain(&endpoint).await;
    chatter.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    // Whatever order they end in, the good one is let in, the others are named.
    let (mut good, mut why) = (0, Vec::new());
    let client = files.client();
    let connecting = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { Stream::connect_tls(&endpoint, &client).await }
    });
    while good + why.len() < 4 {
        match next(&listener).await {
            Ok(_) => good += 1,
            Err(refused) => why.push(refused.detail),
        }
    }
    connecting.await.expect("no panic").expect("let in");
    let late = why.iter().filter(|why| why.contains("longer than 300 ms")).count();
    assert_eq!((good, late, why.len()), (1, 2, 3), "{why:?}");
    drop(stalled);
}

#[tokio::test]
async fn a_crowd_that_stalls_is_pushed_out_by_those_who_do_not() {
    let files = Files::new();
    let (listener, endpoint) = listen(files.server(false), PATIENCE * 10).await;
    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(plain(&endpoint).await);
    }
    let client = files.client();
    let connecting = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { Stream::connect_tls(&endpoint, &client).await }
    });
    // In whatever order: the good one is let in, the oldest of the crowd is named, and nobody else.
    let (mut good, mut pushed_out) = (0, Vec::new());
    while good + pushed_out.len() < 2 {
        match next(&listener).await {
            Ok(_) => good += 1,
            Err(refused) => pushed_out.push(refused.detail),
        }
    }
    connecting.await.expect("no panic").expect("let in");
    assert_eq!((good, pushed_out.len()), (1, 1), "{pushed_out:?}");
    assert!(pushed_out[0].contains("oldest"), "{pushed_out:?}");
    let ended = tokio::time::timeout(PATIENCE, crowd[0].read(&mut [0])).await;
    assert_eq!(ended.expect("it is closed").unwrap_or(0), 0);
    // Nobody waits for those still under way.
    drop(listener);
    assert_eq!(crowd[63].read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn with_tls_other_addresses_may_be_listened_on() {
    let files = Files::new();
    let options = ListenOptions {
        tls: Some(files.server(false)),
        ..ListenOptions::default()
    };
    let everywhere = "tcp://0.0.0.0:0".parse().expect("an endpoint");
    Listener::bind(&everywhere, &options).await.expect("bound");
    // A Unix socket is as before.
    let path = files.path("s");
    let local = Endpoint::Unix(path.clone());
    let listener = Listener::bind(&local, &options).await.expect("bound");
    let (accepted, client) = tokio::join!(next(&listener), Stream::connect(&local));
    assert!(matches!(accepted, Ok((Stream::Unix(_), Peer::Unix(_)))));
    client.expect("connected");
    let unsupported = Stream::connect_tls(&local, &files.client()).await.expect_err("no TLS");
    assert_eq!(unsupported.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn errors_name_the_file_and_never_tell_what_is_in_it() {
    let files = Files::new();
    let (certificate, key, ca) = (files.path("server.pem"), files.path("server.key"), files.path("ca.pem"));
    let secret = "c2VjcmV0IGtleSBtYXRlcmlhbA";
    let broken = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----BEGIN {secret}-----\n");
    let broken = files.write("broken.key", &broken);
    let bad = format!("-----BEGIN PRIVATE KEY-----\n{secret}==\n-----END PRIVATE KEY-----\n");
    let bad = files.write("bad.key", &bad);
    let empty = files.write("empty.pem", "");
    let missing = files.path("missing.pem");
    let load = |certificate: &Path, key: &Path, ca: Option<&Path>| {
        let error = TlsServer::load(certificate, key, ca).expect_err("cannot be used");
        let told = format!("{error} {error:?}");
        assert!(!told.contains(secret), "{told}");
        (error, told)
    };
    // What is given, the name that must be told, the kind of error.
    let (error, told) = load(&missing, &key, None);
    assert!(
        matches!(error, TlsError::Read { .. }) && told.contains("missing.pem"),
        "{told}"
    );
    let (error, told) = load(&certificate, &missing, None);
    assert!(
        matches!(error, TlsError::Read { .. }) && told.contains("missing.pem"),
        "{told}"
    );
    let (error, told) = load(&empty, &key, None);
    assert!(
        matches!(error, TlsError::Content { .. }) && told.contains("empty.pem"),
        "{told}"
    );
    let (error, told) = load(&certificate, &certificate, None);
    assert!(
        matches!(error, TlsError::Content { .. }) && told.contains("no private key"),
        "{told}"
    );
    let (error, told) = load(&certificate, &broken, None);
    assert!(
        matches!(error, TlsError::Content { .. }) && told.contains("broken.key"),
        "{told}"
    );
    let (error, told) = load(&certificate, &bad, None);
    assert!(
        matches!(error, TlsError::Unusable { .. }) && told.contains("bad.key"),
        "{told}"
    );
    let (error, told) = load(&certificate, &files.path("client.key"), None);
    assert!(
        matches!(error, TlsError::Mismatch { .. }) && told.contains("client.key"),
        "{told}"
    );
    let (error, told) = load(&certificate, &key, Some(&empty));
    assert!(
        matches!(error, TlsError::Content { .. }) && told.contains("empty.pem"),
        "{told}"
    );
    TlsServer::load(&certificate, &key, Some(&ca)).expect("fine");

    let server = format!("{:?} {:?}", files.server(true), files.known_client());
    assert!(!server.contains("PRIVATE") && server.len() < 200, "{server}");
    TlsClient::load(&empty).expect_err("trusts nobody");
    files.client().expecting("not a name!").expect_err("no name");
}
