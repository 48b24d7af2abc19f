//! The configuration, from text to what runs.
//!
//! [`source`] (or [`environment`], where there is no file) gives a tree of values that know their places;
//! `shape` holds it against the JSON Schema of the types in [`schema`]; `compile` checks what a schema cannot say
//! and builds the [`Snapshot`]. Each of them reports all that is wrong, so one run shows everything.

pub mod diagnostic;
pub mod environment;
pub mod schema;
pub mod source;
pub mod value;

mod compile;
mod shape;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::provider::PROVIDERS;

use crate::snapshot::Snapshot;
use diagnostic::{Diagnostic, Diagnostics, Path as KeyPath, Place};
use source::Node;

/// A configuration that can run.
#[derive(Debug)]
pub struct Loaded {
    /// What was written, defaults filled in. It serialises without its secrets.
    pub config: schema::Config,
    /// What runs.
    pub snapshot: Snapshot,
    /// What its author should look at.
    pub warnings: Diagnostics,
}

/// Reads the configuration at `path`, or the one that the environment describes.
///
/// # Errors
/// All that is wrong with it, warnings among it.
pub fn load(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Diagnostics> {
    match path {
        Some(path) => {
            let mut diagnostics = Diagnostics::new(path.display().to_string());
            match read(path) {
                Ok(text) => load_text(&text, path, env),
                Err(diagnostic) => {
                    diagnostics.push(diagnostic);
                    Err(diagnostics)
                }
            }
        }
        None => {
            let mut diagnostics = Diagnostics::new(environment::NAME);
            let tree = environment::tree(env, &mut diagnostics);
            finish(&tree, &surroundings(Path::new("."), env), diagnostics)
        }
    }
}

/// Reads the configuration in `text`, as if it stood in the file at `path`.
///
/// # Errors
/// All that is wrong with it, warnings among it.
pub fn load_text(
    text: &str,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Diagnostics> {
    let mut diagnostics = Diagnostics::new(path.display().to_string());
    let Some(mut tree) = source::parse(text, env, &mut diagnostics) else {
        return Err(diagnostics);
    };
    environment::fill(&mut tree, env);
    finish(&tree, &surroundings(path.parent().unwrap_or_else(|| Path::new(".")), env), diagnostics)
}

/// The JSON Schema of the file, for editors.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(schema::Config).to_value();
    // An editor offers these; a name of the configuration's own is as good.
    if let Some(provider) = schema.pointer_mut("/$defs/Cluster/properties/provider") {
        provider["examples"] = PROVIDERS.iter().map(|provider| Value::from(&*provider.name)).collect();
    }
    schema
}

fn finish(
    tree: &Node,
    surroundings: &compile::Surroundings<'_>,
    mut diagnostics: Diagnostics,
) -> Result<Loaded, Diagnostics> {
    let value = shape::conform(tree, &json_schema(), &mut diagnostics);
    let config: schema::Config = match serde_path_to_error::deserialize(value) {
        Ok(config) => config,
        Err(error) => {
            let path = key_path(error.path());
            let place = tree.place_of(&path);
            diagnostics.push(Diagnostic::error(place, path, error.inner().to_string()));
            return Err(diagnostics);
        }
    };
    match compile::compile(&config, tree, surroundings, &mut diagnostics) {
        Some(snapshot) => Ok(Loaded { config, snapshot, warnings: diagnostics }),
        None => Err(diagnostics),
    }
}

fn surroundings<'a>(directory: &Path, env: &'a dyn Fn(&str) -> Option<String>) -> compile::Surroundings<'a> {
    compile::Surroundings {
        env,
        directory: directory.to_owned(),
        credentials: env("CREDENTIALS_DIRECTORY").map(PathBuf::from),
    }
}

fn read(path: &Path) -> Result<String, Diagnostic> {
    let wrong =
        |message: String, help: &str| Diagnostic::error(Place::Nowhere, KeyPath::root(), message).help(help);
    let unreadable = |e: std::io::Error| {
        wrong(
            format!("cannot be read: {e}"),
            "give the path of a configuration file, or none to use the environment",
        )
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(source::MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > source::MAX_FILE {
        let message = format!("larger than {} MiB", source::MAX_FILE >> 20);
        return Err(wrong(message, "a configuration of that size is probably another file"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let before = e.as_bytes().get(..e.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(format!("not UTF-8 in line {line}"), "save the file as UTF-8")
    })
}

fn key_path(path: &serde_path_to_error::Path) -> KeyPath {
    use serde_path_to_error::Segment;
    path.iter().fold(KeyPath::root(), |path, segment| match segment {
        Segment::Seq { index } => path.index(*index),
        Segment::Map { key } => path.key(key),
        Segment::Enum { .. } | Segment::Unknown => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &str = "clusters:\n  a:\n    provider: openai\n    api_key: file:api-key\nmodels: {m: {deployments: [{cluster: a}]}}\nanonymous: true\n";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("forebay-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn authorization(loaded: &Loaded) -> String {
        let pool = loaded.snapshot.clusters[0].pool.as_ref().unwrap();
        pool.any().unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_relative_secret_is_sought_with_systemds_credentials_and_then_beside_the_file() {
        let (folder, credentials) = (Folder::new("beside"), Folder::new("credentials"));
        let file = folder.write("forebay.yaml", FLEET);
        folder.write("api-key", "beside\n");
        let env = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| credentials.0.display().to_string());
        assert_eq!(authorization(&load(Some(&file), &env).unwrap()), "Bearer beside");
        credentials.write("api-key", "credential\n");
        assert_eq!(authorization(&load(Some(&file), &env).unwrap()), "Bearer credential");
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let folder = Folder::new("unreadable");
        let wrong = |path: &Path| load(Some(path), &|_| None).unwrap_err().to_string();
        assert!(wrong(&folder.0.join("none.yaml")).contains("none.yaml: error: cannot be read:"));
        let latin = folder.write("latin.yaml", b"a: 1\nb: \xe9\n");
        assert!(wrong(&latin).contains("error: not UTF-8 in line 2"));
        let large = folder.write("large.yaml", vec![b'#'; source::MAX_FILE as usize + 1]);
        assert!(wrong(&large).contains("larger than 4 MiB"));
    }

    #[test]
    fn an_authority_and_a_certificate_are_read_and_a_foreign_key_is_refused() {
        let folder = Folder::new("tls");
        for name in ["a", "b"] {
            let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example.com")]).unwrap();
            folder.write(&format!("{name}.pem"), made.cert.pem());
            folder.write(&format!("{name}.key"), made.signing_key.serialize_pem());
        }
        let text = |key: &str| {
            format!(
                "listeners:\n  - tls: {{certificates: [{{cert: a.pem, key: {key}}}]}}\nclusters:\n  n: {{provider: vllm, \
                 endpoints: [\"https://n\"], tls: {{ca: b.pem}}}}\nmodels: {{\"*\": {{deployments: [{{cluster: n}}]}}}}\n"
            )
        };
        let file = folder.write("forebay.yaml", text("a.key"));
        let loaded = load(Some(&file), &|_| None).unwrap();
        assert_eq!(
            loaded.snapshot.listeners[0].tls.as_ref().unwrap().certificates[0].cert,
            folder.0.join("a.pem")
        );
        let file = folder.write("forebay.yaml", text("b.key"));
        let wrong = load(Some(&file), &|_| None).unwrap_err().to_string();
        assert!(wrong.contains(":2:45: error: listeners[0].tls.certificates[0].key:"), "{wrong}");
        assert!(wrong.contains("b.key is not the key of this certificate"), "{wrong}");
    }

    #[test]
    fn the_most_specific_clocks_are_kept_apart() {
        let text = "clocks: {gap: 1m}\nclusters:\n  a: {provider: vllm, endpoints: [\"http://h:1\"], clocks: {gap: 2m, heartbeat: off}}\n\
                    models: {m: {deployments: [{cluster: a}], clocks: {gap: 3m}}}\nroutes: [{name: r, path: /x/, clocks: {gap: 4m}}]\n";
        let snapshot = load_text(text, Path::new("t.yaml"), &|_| None).unwrap().snapshot;
        let minutes = |n: u64| std::time::Duration::from_secs(60 * n);
        assert_eq!(snapshot.clocks.gap, minutes(1));
        assert_eq!(snapshot.clusters[0].spec.clocks.gap, Some(minutes(2)));
        assert_eq!(snapshot.clusters[0].spec.clocks.heartbeat, Some(None));
        assert_eq!(snapshot.aliases.find("m").unwrap().0.clocks.gap, Some(minutes(3)));
        let route = snapshot.routes.iter().next().unwrap();
        assert_eq!((route.clocks.gap, route.base.as_str()), (Some(minutes(4)), "/x"));
        assert_eq!(snapshot.clocks.head, minutes(10), "what a file leaves out keeps its default");
    }

    #[test]
    fn a_provider_of_ones_own_is_like_another_but_for_what_it_says() {
        let text = "providers:\n  acme: {base_url: \"https://api.acme.test/v2\", key_header: x-acme-key, speaks: [messages],\n    \
                    models: [{names: [\"old-*\"], sampling: false}]}\n  openai: {models: [{names: [\"*\"], top_k: true}]}\n\
                    clusters:\n  a: {provider: acme, api_key: env:K}\n  o: {provider: openai, api_key: env:K}\n\
                    models: {\"*\": {deployments: [{cluster: a}, {cluster: o}]}}\n";
        let env = |name: &str| (name == "K").then(|| "secret-0123456789".to_owned());
        let snapshot = load_text(text, Path::new("t.yaml"), &env).unwrap().snapshot;
        let [own, openai] = &snapshot.clusters[..] else { panic!("two clusters") };
        let origin = &own.spec.endpoints[0].origin;
        assert_eq!(format!("{origin}{}", origin.prefix), "https://api.acme.test/v2");
        assert_eq!(own.spec.headers[0].0, "x-acme-key");
        assert_eq!(own.spec.speaks, [crate::dialect::Operation::Messages]);
        let facts = |model| crate::provider::facts::facts(&own.spec.provider, model);
        assert_ne!(facts("old-1").sampling, facts("new-1").sampling);
        assert_eq!((&*openai.spec.provider.name, openai.spec.speaks.len()), ("openai", 4));
    }

    #[test]
    fn a_place_in_a_cloud_makes_an_address_and_a_credential() {
        use crate::provider::credential::Source;
        let text = "clusters:\n  b: {provider: bedrock-converse, region: us-gov-west-1, fips: true}\n  \
                    k: {provider: bedrock, api_key: env:K, base_url: \"https://bedrock-runtime.eu-west-1.amazonaws.com\"}\n  \
                    v: {provider: vertex-anthropic, project: p, region: global}\n  \
                    z: {provider: azure, base_url: \"https://x.openai.azure.com\", api_key: env:K, api_version: 2024-10-21}\n\
                    models: {\"*\": {deployments: [{cluster: b}, {cluster: k}, {cluster: v}, {cluster: z}]}}\n";
        let env = |name: &str| (name == "K").then(|| "secret-0123456789".to_owned());
        let snapshot = load_text(text, Path::new("t.yaml"), &env).unwrap().snapshot;
        let base = |at: usize| {
            let origin = &snapshot.clusters[at].spec.endpoints[0].origin;
            format!("{origin}{}", origin.prefix)
        };
        assert_eq!(base(0), "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com");
        assert_eq!(base(1), "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1");
        assert_eq!(
            base(2),
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/anthropic"
        );
        assert_eq!(base(3), "https://x.openai.azure.com/openai");
        let source = |at: usize| &snapshot.clusters[at].spec.credential;
        assert!(
            matches!(source(0), Source::Aws { region, service: "bedrock", .. } if region == "us-gov-west-1")
        );
        assert!(matches!(source(1), Source::Headers) && matches!(source(3), Source::Headers));
        assert!(matches!(source(2), Source::Google { .. }));
    }

    #[test]
    fn the_reference_names_every_provider() {
        let reference = include_str!("../conf/reference.yaml");
        for provider in PROVIDERS.iter() {
            assert!(reference.split_whitespace().any(|word| word == provider.name), "{}", provider.name);
        }
    }

    #[test]
    fn the_standard_clocks_are_those_of_the_runtime() {
        let text = FLEET.replace("file:api-key", "sk-1");
        let snapshot = load_text(&text, Path::new("t.yaml"), &|_| None).unwrap().snapshot;
        let schema = schema::Clocks::standard();
        assert_eq!(snapshot.clocks, crate::clocks::Clocks::default());
        // What the schema says by default must be what runs where nothing was said.
        assert_eq!(schema.gap.map(|gap| gap.0), Some(snapshot.clocks.gap));
        assert_eq!(schema.first_token.map(|time| time.0), Some(snapshot.clocks.first_token));
    }
}
