//! A loaded plugin: compiled code from the cache, ready to be instantiated.

use crate::{
    Descriptor, Engine, Fault, Grants, Instance, JobContext, Limits, LoadError, Snapshot,
    bindings::TaskPre,
    compile::{Manifest, is_digest},
    engine::{Backend, hex},
    meter::Meter,
    services::Capabilities,
    state::State,
    turns::Turns,
    wasi::Wasi,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};
use wasmtime::component::Component;

/// A loaded plugin. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    digest: String,
    descriptor: Descriptor,
    limits: Arc<Limits>,
    grants: Grants,
    capabilities: Capabilities,
    uses_wasi: bool,
    pre: TaskPre<State>,
    engine: Arc<crate::engine::Inner>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { digest, descriptor, .. } = &*self.inner;
        f.debug_struct("Plugin").field("name", &descriptor.name).field("digest", digest).finish()
    }
}

/// A capability that a plugin may import.
struct Capability {
    /// Start of the import's name.
    prefix: &'static str,
    /// What to write under `[plugins.<type>.grants]`.
    line: &'static str,
    granted: fn(&Grants) -> bool,
    hint: &'static str,
}

/// Offered without a grant. Of these, files and the network do nothing by themselves.
const ALWAYS: [&str; 7] = [
    "waymark:task/",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

const CAPABILITIES: [Capability; 5] = [
    Capability {
        prefix: "wasi:http/",
        line: "http = { allow = [{ host = \"...\" }] }",
        granted: |grants| grants.http.is_some(),
        hint: "; a JavaScript plugin that does not need it is built with the features http and fetch-event disabled",
    },
    Capability {
        prefix: "wasi:keyvalue/",
        line: "keyvalue = {}",
        granted: |grants| grants.keyvalue.is_some(),
        hint: "",
    },
    Capability {
        prefix: "wasi:config/",
        line: "config = { KEY = \"...\" }",
        granted: |grants| !grants.config.is_empty(),
        hint: "",
    },
    Capability {
        prefix: "waymark:llm/",
        line: "llm = { provider = \"...\" }",
        granted: |grants| grants.llm.is_some(),
        hint: " (`llm = {}` lets it load without a model)",
    },
    Capability {
        prefix: "waymark:sql/",
        line: "sql.NAME = {}",
        granted: |grants| !grants.sql.is_empty(),
        hint: " (NAME is a connection, `[sql.NAME]`)",
    },
];

fn capability(import: &str) -> Option<&'static Capability> {
    CAPABILITIES.iter().find(|known| import.starts_with(known.prefix))
}

/// Whether some host could grant all this.
pub(crate) fn check_known(imports: &[String]) -> Result<(), LoadError> {
    let known =
        |import: &str| ALWAYS.iter().any(|known| import.starts_with(known)) || capability(import).is_some();
    let Some(import) = imports.iter().find(|import| !known(import)) else { return Ok(()) };
    let message = format!("the plugin imports {import}, which no version of Waymark offers");
    Err(LoadError::new("unknown-import", message))
}

/// An import of a capability, and what the operator made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Its name, such as `waymark:llm/chat@0.1.0`.
    pub import: String,
    /// The plugin says that it can do without: it loads without the grant, and calls fail.
    pub optional: bool,
    /// The operator granted it.
    pub granted: bool,
    /// What to write where to grant it.
    pub grant: String,
}

/// The capabilities among the imports of a plugin, in its own order. Interfaces of the contract and the harmless part of
/// WASI, which need no grant, are left out.
#[must_use]
pub fn capabilities(descriptor: &Descriptor, imports: &[String], grants: &Grants) -> Vec<Import> {
    let optional = descriptor.optional_imports();
    let package = |import: &str| import.split('/').next().unwrap_or_default().to_owned();
    let one = |import: &String| {
        let Capability { line, granted, hint, .. } = capability(import)?;
        Some(Import {
            import: import.clone(),
            optional: optional.contains(&package(import)),
            granted: granted(grants),
            grant: format!("write `{line}` under `[plugins.{}.grants]`{hint}", descriptor.name),
        })
    };
    imports.iter().filter_map(one).collect()
}

/// Whether a plugin may import all this.
fn check_imports(descriptor: &Descriptor, imports: &[String], grants: &Grants) -> Result<(), LoadError> {
    check_known(imports)?;
    let capabilities = capabilities(descriptor, imports, grants);
    match capabilities.into_iter().find(|import| !import.granted && !import.optional) {
        None => Ok(()),
        Some(Import { import, grant, .. }) => Err(LoadError::new(
            "import-not-granted",
            format!("the plugin imports {import}, which is not granted: {grant}"),
        )),
    }
}

impl Engine {
    /// Is there compiled code of this digest for this engine?
    #[must_use]
    pub fn is_cached(&self, cache: &Path, digest: &str) -> bool {
        is_digest(digest) && cache.join(&self.inner.hash).join(format!("{digest}.json")).is_file()
    }

    /// Loads a plugin that [`crate::compile_file`] put into the cache.
    ///
    /// # Errors
    /// `not-compiled`, `cache-damaged`, `import-not-granted`, `unknown-import`, `host-error`.
    pub fn load(
        &self,
        cache: &Path,
        digest: &str,
        limits: Limits,
        grants: Grants,
    ) -> Result<Plugin, LoadError> {
        let unknown =
            || LoadError::new("not-compiled", format!("{digest} is not in the cache of compiled plugins"));
        if !is_digest(digest) {
            return Err(unknown());
        }
        let directory = cache.join(&self.inner.hash);
        let manifest = Manifest::read(&directory, digest)?.ok_or_else(unknown)?;
        let code = directory.join(format!("{digest}.cwasm"));
        let bytes = std::fs::read(&code).map_err(|error| LoadError::host("compiled code", error))?;
        if hex(&Sha256::digest(&bytes)) != manifest.sha256 {
            return Err(LoadError::new(
                "cache-damaged",
                format!("{} is not what was written", code.display()),
            ));
        }
        drop(bytes);
        let compiled = manifest.compiled;
        check_imports(&compiled.descriptor, &compiled.imports, &grants)?;
        let damaged = |error: wasmtime::Error| LoadError::new("cache-damaged", format!("{error:#}"));
        let load = |backend: &Backend| {
            // SAFETY: the file was written by `compile_file` into a directory that only this user may write to, and
            // its digest was checked just now.
            let component = unsafe { Component::deserialize_file(&backend.engine, &code) }?;
            component.initialize_copy_on_write_image()?;
            TaskPre::new(backend.linker.instantiate_pre(&component)?)
        };
        let pooled = self.inner.pooled.as_ref().and_then(|backend| {
            load(backend)
                .inspect_err(|error| {
                    let reason = format!("{error:#}");
                    tracing::info!(
                        plugin = compiled.descriptor.name,
                        reason,
                        "the plugin does not fit into a slot"
                    );
                })
                .ok()
        });
        let pre = match pooled {
            Some(pre) => pre,
            None => load(&self.inner.on_demand).map_err(damaged)?,
        };
        let mut capabilities = self.inner.services.capabilities(&compiled.descriptor.name, &grants);
        let imports = |prefix: &str| compiled.imports.iter().any(|import| import.starts_with(prefix));
        let uses_wasi = imports("wasi:");
        // A directory is made for nobody who cannot see it.
        capabilities.scratch = capabilities.scratch.filter(|_| imports("wasi:filesystem/"));
        Ok(Plugin {
            inner: Arc::new(Inner {
                digest: digest.to_owned(),
                descriptor: compiled.descriptor,
                limits: Arc::new(limits),
                grants,
                capabilities,
                uses_wasi,
                pre,
                engine: self.inner.clone(),
            }),
        })
    }
}

impl Plugin {
    /// What the plugin says of itself.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.inner.descriptor
    }

    /// SHA-256 of the `.wasm` file, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// Whether its instances come from the pool: it fits into a slot, and there is a pool.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        let pool = self.inner.engine.pooled.as_ref();
        pool.is_some_and(|pool| wasmtime::Engine::same(&pool.engine, self.inner.pre.engine()))
    }

    /// Begins a job in a fresh instance.
    ///
    /// Must be called within a Tokio runtime with timers. Cancel-safe: a dropped call leaves nothing behind.
    ///
    /// # Errors
    /// [`Fault::Busy`] where memory or places are used up now; else what the guest failed with.
    pub async fn start(&self, context: JobContext, input: &str) -> Result<Instance, Fault> {
        let mut instance = self.open(context).await?;
        instance.start(input).await?;
        Ok(instance)
    }

    /// Goes on with a job in a fresh instance. Otherwise like [`Plugin::start`].
    ///
    /// # Errors
    /// Those of [`Plugin::start`].
    pub async fn restore(&self, context: JobContext, snapshot: Snapshot) -> Result<Instance, Fault> {
        let mut instance = self.open(context).await?;
        instance.restore(snapshot).await?;
        Ok(instance)
    }

    async fn open(&self, context: JobContext) -> Result<Instance, Fault> {
        let Inner { limits, grants, capabilities, uses_wasi, pre, engine, .. } = &*self.inner;
        let meter = Meter::new(engine.budget.clone(), limits.memory_bytes);
        let mut state = State::new(context, limits.clone(), meter, Turns::new(engine.gate()));
        state.capabilities = capabilities.clone();
        if *uses_wasi {
            let (http, room) = (capabilities.http.clone(), capabilities.scratch.as_deref());
            let wasi = Wasi::new(grants, http, room, &state.logger, state.context.shadow)
                .map_err(|error| Fault::Host(format!("{error:#}")))?;
            state.wasi = Some(Box::new(wasi));
        }
        Instance::open(pre, state).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plugin of this name that says it can do without these packages.
    fn descriptor(name: &str, optional: &str) -> Descriptor {
        Descriptor {
            name: name.into(),
            version: "1.0.0".into(),
            description: String::new(),
            input_schema: format!("{{\"{}\": [{optional}]}}", crate::descriptor::OPTIONAL_IMPORTS),
            result_schema: "{}".into(),
            state_version: 1,
            oldest_state_version: 1,
        }
    }

    fn check(import: &str) -> Result<(), LoadError> {
        let imports = ["waymark:task/job@0.1.0".into(), import.into()];
        check_imports(&descriptor("sampler", ""), &imports, &Grants::default())
    }

    #[test]
    fn what_tool_chains_always_import_passes() {
        for import in ["wasi:cli/environment@0.2.3", "wasi:filesystem/types@0.2.0", "wasi:sockets/tcp@0.2.0"]
        {
            check(import).unwrap();
        }
    }

    #[test]
    fn a_capability_that_is_not_granted_is_named_with_its_line_of_configuration() {
        let error = check("wasi:http/outgoing-handler@0.2.3").unwrap_err();
        assert_eq!(error.code(), "import-not-granted");
        let message = error.to_string();
        assert!(message.contains("wasi:http/outgoing-handler@0.2.3"), "{message}");
        assert!(
            message.contains("`http = { allow = [{ host = \"...\" }] }` under `[plugins.sampler.grants]`"),
            "{message}"
        );
    }

    #[test]
    fn a_granted_capability_passes_with_nothing_configured_for_it() {
        let imports = ["waymark:llm/chat@0.1.0".to_owned()];
        let grants = Grants { llm: Some(crate::llm::config::Grant::default()), ..Grants::default() };
        let asker = descriptor("asker", "");
        check_imports(&asker, &imports, &grants).unwrap();
        let message = check_imports(&asker, &imports, &Grants::default()).unwrap_err().to_string();
        assert!(
            message.contains("`llm = { provider = \"...\" }` under `[plugins.asker.grants]`"),
            "{message}"
        );
    }

    #[test]
    fn a_capability_that_the_plugin_can_do_without_passes_and_is_listed() {
        let imports = ["waymark:llm/chat@0.1.0", "waymark:sql/query@0.1.0", "wasi:clocks/wall-clock@0.2.0"];
        let imports = imports.map(str::to_owned);
        let grants = Grants { llm: Some(crate::llm::config::Grant::default()), ..Grants::default() };
        let both = descriptor("asker", "\"waymark:llm\", \"waymark:sql\"");
        check_imports(&both, &imports, &Grants::default()).unwrap();
        let listed = capabilities(&both, &imports, &grants);
        let told: Vec<_> = listed.iter().map(|import| (import.optional, import.granted)).collect();
        assert_eq!(told, [(true, true), (true, false)], "no line about what needs no grant");
        assert!(listed[1].grant.contains("`sql.NAME = {}` under `[plugins.asker.grants]`"), "{listed:?}");
        let one = descriptor("asker", "\"waymark:llm\"");
        let refused = check_imports(&one, &imports, &Grants::default()).unwrap_err().to_string();
        assert!(refused.contains("waymark:sql/query"), "only what it names: {refused}");
        let part = descriptor("asker", "\"waymark:l\"");
        assert!(check_imports(&part, &imports, &grants).is_err(), "packages are named whole");
    }

    #[test]
    fn an_import_that_nobody_offers_is_named() {
        let error = check("acme:missiles/launch").unwrap_err();
        assert_eq!(error.code(), "unknown-import");
        assert!(error.to_string().contains("acme:missiles/launch"));
    }
}
