//! A place for a test: a folder of its own, an endpoint in it, and clients that go with it.

use std::path::Path;

use tempfile::TempDir;

use super::crawler::ScriptedCrawler;
use crate::Endpoint;

/// Sets up a folder with a socket path for one test, and takes it away with everything in it.
///
/// Start your server at [`SocketTestSuite::endpoint`], then talk to it. Dropping it is teardown too.
#[derive(Debug)]
pub struct SocketTestSuite {
    folder: TempDir,
}

impl SocketTestSuite {
    /// A fresh folder.
    ///
    /// # Panics
    /// When the system does not let it.
    pub fn setup() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// A Unix socket path in the folder, short enough for every system.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.folder.path().join("crawler.sock"))
    }

    /// The folder, for whatever else the test needs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A crawler connected to the suite's endpoint, which has said nothing yet.
    ///
    /// # Panics
    /// When nobody listens there within [`PATIENCE`](super::PATIENCE).
    pub async fn create_test_client(&self) -> ScriptedCrawler {
        ScriptedCrawler::connect(&self.endpoint()).await
    }

    /// Takes the folder away.
    ///
    /// # Panics
    /// When something in it cannot be removed.
    pub fn teardown(self) {
        self.folder.close().expect("the folder can be removed");
    }
}
