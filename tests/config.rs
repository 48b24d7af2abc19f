//! The configuration from outside: what is wrong is shown as `tests/config/*.case` say, everything under `conf/` loads.
//!
//! A case is a YAML file, a line `----`, and what is printed for it. Its first lines may set variables
//! (`# env: NAME=value`); `# no file` leaves the file out. `BLESS=1 cargo test --test config` writes what is printed now.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};

    use forebay::config::diagnostic::Diagnostics;
    use forebay::config::source::{self, Data, Node};
    use forebay::config::{json_schema, load, load_text};
    use serde_json::Value;

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path, extension));
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
        found.sort();
        found
    }

    // === what is printed for what is wrong ===

    fn printed(input: &str) -> String {
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for line in input.lines().filter_map(|line| line.strip_prefix("# env: ")) {
            let (name, value) = line.split_once('=').unwrap();
            variables.insert(name.to_owned(), value.to_owned());
        }
        let env = |name: &str| variables.get(name).cloned();
        let outcome = if input.lines().any(|line| line == "# no file") {
            load(None, &env)
        } else {
            load_text(input, Path::new("forebay.yaml"), &env)
        };
        match outcome {
            Ok(loaded) => format!("{}ok\n", loaded.warnings),
            Err(diagnostics) => format!("{diagnostics}{}\n", diagnostics.summary()),
        }
    }

    #[test]
    fn cases_print_what_they_say() {
        let bless = std::env::var_os("BLESS").is_some();
        let cases = files(&root().join("tests/config"), "case");
        assert!(cases.len() >= 10, "the cases are gone");
        let mut differing = Vec::new();
        for case in cases {
            let text = fs::read_to_string(&case).unwrap();
            let (input, expected) = text.split_once("----\n").unwrap_or((&text, ""));
            let printed = printed(input);
            if bless {
                fs::write(&case, format!("{input}----\n{printed}")).unwrap();
            } else if printed != expected {
                differing
                    .push(format!("== {}\n-- expected\n{expected}-- printed\n{printed}", case.display()));
            }
        }
        assert!(differing.is_empty(), "{}", differing.join("\n"));
    }

    // === conf/ ===

    /// A directory with the files that the configurations under `conf/` refer to, and an environment that names them.
    struct Site {
        directory: PathBuf,
    }

    impl Site {
        fn new(name: &str) -> Self {
            let directory =
                std::env::temp_dir().join(format!("forebay-config-{name}-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            for (suffix, host) in [("", "llm.example.com"), ("_2", "*.eu.example.com")] {
                let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
                fs::write(directory.join(format!("cert{suffix}.pem")), made.cert.pem()).unwrap();
                fs::write(directory.join(format!("key{suffix}.pem")), made.signing_key.serialize_pem())
                    .unwrap();
            }
            fs::write(directory.join("endpoints"), "http://10.9.0.1:8000\nhttp://10.9.0.2:8000 weight=2\n")
                .unwrap();
            fs::write(directory.join("vertex.json"), "{}").unwrap();
            fs::write(directory.join("keys.yaml"), "keys: {}\n").unwrap();
            fs::write(directory.join("team-mobile-key"), "a-key-from-a-credential\n").unwrap();
            fs::write(directory.join("vault-token"), "a-token-from-a-credential\n").unwrap();
            Self { directory }
        }

        fn get(&self, name: &str) -> Option<String> {
            let file = |file: &str| Some(self.directory.join(file).display().to_string());
            match name {
                "TLS_CERT" | "GPU_CA" | "CLIENT_CA" => file("cert.pem"),
                "KEYS_FILE" => file("keys.yaml"),
                "TLS_KEY" => file("key.pem"),
                "TLS_CERT_2" => file("cert_2.pem"),
                "TLS_KEY_2" => file("key_2.pem"),
                "ENDPOINTS_FILE" => file("endpoints"),
                "VERTEX_KEY_FILE" => file("vertex.json"),
                "CREDENTIALS_DIRECTORY" => Some(self.directory.display().to_string()),
                "LIMITS_REDIS_KEY" => Some("redis://10.0.0.7:6379".to_owned()),
                _ if name.ends_with("_KEY") => Some(format!("the-value-of-{name}")),
                _ => None,
            }
        }
    }

    impl Drop for Site {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    #[test]
    fn everything_under_conf_loads_without_a_warning() {
        let site = Site::new("conf");
        let all = files(&root().join("conf"), "yaml");
        assert!(all.len() >= 8);
        for file in all {
            match load(Some(&file), &|name| site.get(name)) {
                Ok(loaded) => assert!(loaded.warnings.is_empty(), "{}", loaded.warnings),
                Err(diagnostics) => panic!("{diagnostics}"),
            }
        }
    }

    #[test]
    fn a_dumped_configuration_and_its_debug_output_hold_no_secret() {
        let text = "clusters: {a: {provider: openai, api_key: sk-literal-secret, headers: {x-token: tok-literal-secret}}}\n\
                    keys: {me: {key: env:MY_KEY}}\nmodels: {m: {deployments: [{cluster: a}]}}\n";
        let env = |name: &str| (name == "MY_KEY").then(|| "env-secret-0123456789".to_owned());
        let loaded = load_text(text, Path::new("t.yaml"), &env).unwrap();
        let dump = serde_json::to_string(&loaded.config).unwrap();
        let shown = format!("{dump}{loaded:?}{}", loaded.warnings);
        assert!(dump.contains("\"env:MY_KEY\"") && dump.contains("\"***\""), "{dump}");
        for secret in ["sk-literal-secret", "tok-literal-secret", "env-secret-0123456789"] {
            assert!(!shown.contains(secret), "{secret} is shown");
        }
    }

    // === the reference ===

    /// What the reference says under each key of each definition of the schema.
    type Seen<'a> = BTreeMap<(String, String), Vec<&'a Node>>;

    fn visit<'a>(node: &'a Node, schema: &Value, name: &str, whole: &Value, seen: &mut Seen<'a>) {
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            for option in options {
                visit(node, option, name, whole, seen);
            }
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let pointer = target.trim_start_matches('#');
            return visit(node, whole.pointer(pointer).unwrap(), target, whole, seen);
        }
        match &node.data {
            Data::Sequence(nodes) => {
                for node in nodes {
                    visit(node, schema.get("items").unwrap_or(&Value::Null), name, whole, seen);
                }
            }
            Data::Mapping(entries) => {
                for entry in entries {
                    if let Some(inner) = schema.get("properties").and_then(|all| all.get(&entry.key)) {
                        seen.entry((name.to_owned(), entry.key.clone())).or_default().push(&entry.value);
                        visit(&entry.value, inner, name, whole, seen);
                    } else if let Some(inner) =
                        schema.get("additionalProperties").filter(|inner| inner.is_object())
                    {
                        visit(&entry.value, inner, name, whole, seen);
                    }
                }
            }
            _ => {}
        }
    }

    /// Every key of every definition, and its default.
    fn keys(whole: &Value) -> Vec<(String, String, Option<Value>)> {
        let mut definitions = vec![(String::new(), whole)];
        for (name, definition) in whole["$defs"].as_object().unwrap() {
            definitions.push((format!("#/$defs/{name}"), definition));
        }
        let mut keys = Vec::new();
        for (name, definition) in definitions {
            for (key, property) in
                definition.get("properties").and_then(Value::as_object).into_iter().flatten()
            {
                let default = property.get("default").filter(|default| !default.is_null());
                keys.push((name.clone(), key.clone(), default.cloned()));
            }
        }
        keys
    }

    #[test]
    fn the_reference_has_every_key_and_says_its_true_default() {
        let text = fs::read_to_string(root().join("conf/reference.yaml")).unwrap();
        let mut diagnostics = Diagnostics::new("reference.yaml");
        let tree = source::parse(&text, &|_| None, &mut diagnostics).unwrap();
        let schema = json_schema();
        let mut seen = Seen::new();
        visit(&tree, &schema, "", &schema, &mut seen);
        let mut missing = BTreeSet::new();
        let mut untrue = BTreeSet::new();
        let keys = keys(&schema);
        assert!(keys.len() > 100, "the schema is not walked: {}", keys.len());
        for (definition, key, default) in keys {
            let Some(nodes) = seen.get(&(definition.clone(), key.clone())) else {
                missing.insert(format!("{definition}.{key}"));
                continue;
            };
            let Some(default) = default.as_ref().and_then(scalar_text) else {
                continue;
            };
            let comment = format!("(default {default})");
            let told = nodes.iter().any(|node| match &node.data {
                Data::Scalar(scalar) => same(&scalar.text, &default),
                _ => false,
            });
            if !told && !text.contains(&comment) {
                untrue.insert(format!("{definition}.{key} is {default} by default"));
            }
        }
        assert!(missing.is_empty(), "not in conf/reference.yaml: {missing:#?}");
        assert!(untrue.is_empty(), "conf/reference.yaml says otherwise: {untrue:#?}");
    }

    fn scalar_text(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// Whether two texts are the same value: `60s` is `1m`.
    fn same(a: &str, b: &str) -> bool {
        use forebay::config::value::Period;
        a == b || matches!((a.parse::<Period>(), b.parse::<Period>()), (Ok(a), Ok(b)) if a == b)
    }

    #[test]
    fn every_key_is_explained() {
        let schema = json_schema();
        let definitions = std::iter::once(&schema).chain(schema["$defs"].as_object().unwrap().values());
        for definition in definitions {
            for (key, property) in
                definition.get("properties").and_then(Value::as_object).into_iter().flatten()
            {
                assert!(property.get("description").is_some(), "{key} has no description");
            }
        }
    }
}
