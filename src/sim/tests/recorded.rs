//! What the real servers took, this one takes: recorded requests, asked again.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_yaml::Value as Yaml;

/// The recordings of providers whose dialect has but one home.
const PROVIDERS: [&str; 5] = ["_gemini_", "_vertexai_", "_bedrock_", "_cohere_", "_ollama_"];

/// Ends of the paths that are asked again.
const PATHS: [&str; 11] = [
    ":generateContent",
    ":streamGenerateContent",
    ":countTokens",
    ":embedContent",
    ":batchEmbedContents",
    "/converse",
    "/converse-stream",
    "/invoke",
    "/v2/chat",
    "/v2/embed",
    "/api/chat",
];

/// The requests of a recording that were answered with 200: their targets and bodies.
fn answered(recording: &Yaml) -> Vec<(String, Vec<u8>)> {
    let exchanges = recording["http_interactions"].as_sequence().unwrap();
    let right =
        exchanges.iter().filter(|exchange| exchange["response"]["status"]["code"].as_u64() == Some(200));
    let asked = right.filter_map(|exchange| {
        let (_, rest) = exchange["request"]["uri"].as_str()?.split_once("://")?;
        let target = rest.get(rest.find('/')?..)?;
        let path = target.split('?').next()?;
        let body = match &exchange["request"]["body"]["string"] {
            Yaml::Tagged(tagged) => {
                let text: String = tagged.value.as_str()?.split_whitespace().collect();
                STANDARD.decode(text).ok()?
            }
            plain => plain.as_str()?.as_bytes().to_vec(),
        };
        PATHS.iter().any(|end| path.ends_with(end)).then(|| (target.to_owned(), body))
    });
    // Other makers' models are invoked with bodies of their own.
    let known = |body: &[u8]| memchr::memmem::find(body, b"anthropic_version").is_some();
    asked.filter(|(target, body)| !target.ends_with("/invoke") || known(body)).collect()
}

#[tokio::test]
async fn what_real_servers_took_is_taken() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/ruby_llm");
    let Ok(files) = std::fs::read_dir(folder) else {
        println!("skipped: no recorded traffic at {folder}");
        return;
    };
    let sim = sim(|_| {}).await;
    let (mut count, mut refused) = (0, Vec::new());
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !PROVIDERS.iter().any(|provider| name.contains(provider)) {
            continue;
        }
        let text = std::fs::read(&path).unwrap();
        for (target, body) in answered(&serde_yaml::from_slice(&text).unwrap()) {
            let mut client = Client::new(&sim).await;
            client.send(post(&target, "", &String::from_utf8(body).unwrap())).await;
            let got = client.reply().await;
            count += 1;
            if got.status != 200 {
                refused.push(format!("{name} {target}: {}", got.text()));
            }
        }
    }
    println!("{count} requests");
    assert!(count > 100 && refused.is_empty(), "{count} {refused:#?}");
}
