//! WASI 0.2 in a harmless form.
//!
//! Tool chains of other languages import it whether a program uses it or not, so it is always there: clocks and
//! random numbers work, standard output and error become log lines, there are no arguments, no environment, no
//! network, and of files only those that the operator granted: read-only, and a [`scratch`](crate::scratch) directory.

use crate::{
    Grants,
    http::{Http, Outbound},
    log::{Logger, Stream},
    scratch::{self, Room, Scratch},
    state::State,
};
use std::sync::Arc;
use tokio::io::AsyncWrite;
use wasmtime::{Error, Result, component::ResourceTable};
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxView, WasiView,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

pub(crate) struct Wasi {
    context: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) http: Http,
    /// Goes last: nothing is open in it any more then.
    pub(crate) scratch: Option<Scratch>,
}

/// Streams, files and pollables that a guest may hold at once. Stops a guest that opens files for ever.
const HANDLES_MAX: usize = 1_024;
/// Longest answer of `wasi:random`: the host allocates it.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Bytes a guest may write to standard output at once; what a line keeps is bounded by the log.
const WRITE_BYTES_MAX: usize = 64 << 10;

impl Wasi {
    /// # Errors
    /// A granted directory cannot be opened, or none made for scratch files.
    pub(crate) fn new(
        grants: &Grants,
        outbound: Option<Arc<Outbound>>,
        room: Option<&Room>,
        logger: &Arc<Logger>,
        shadow: bool,
    ) -> Result<Self> {
        let mut builder = WasiCtx::builder();
        builder
            .stdout(Voice { logger: logger.clone(), stream: Stream::Output })
            .stderr(Voice { logger: logger.clone(), stream: Stream::Error })
            .max_random_size(RANDOM_BYTES_MAX)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        for grant in &grants.files {
            builder
                .preopened_dir(&grant.host, &grant.guest, FsPerms::ReadOnly)
                .map_err(|error| error.context(format!("the granted directory {}", grant.host.display())))?;
        }
        let made = room.map(|room| Scratch::new(room, logger)).transpose();
        let scratch = made.map_err(|error| Error::from(error).context("the scratch directory"))?;
        if let Some(scratch) = &scratch {
            builder
                .preopened_dir(scratch.path(), scratch::GUEST_PATH, FsPerms::ReadWrite)
                .map_err(|error| error.context("the scratch directory"))?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let http = Http::new(outbound, logger.clone(), shadow);
        Ok(Self { context: builder.build(), table, http, scratch })
    }
}

impl State {
    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        // A plugin that imports WASI has it from the start; this is only for the type.
        self.wasi.get_or_insert_with(|| {
            Box::new(Wasi {
                context: WasiCtx::builder().build(),
                table: ResourceTable::new(),
                http: Http::new(None, self.logger.clone(), self.context.shadow),
                scratch: None,
            })
        })
    }
}

impl WasiView for Wasi {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().ctx()
    }
}

/// Standard output or error.
#[derive(Clone)]
struct Voice {
    logger: Arc<Logger>,
    stream: Stream,
}

impl IsTerminal for Voice {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Voice {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Voice {
    async fn ready(&mut self) {}
}

impl OutputStream for Voice {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.logger.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
