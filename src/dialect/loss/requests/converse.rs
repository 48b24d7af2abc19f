//! Bedrock Converse.

use super::{DEFAULT, LABEL, Probe};

/// One tool.
const TOOL: &str = r#"{"toolConfig":{"tools":[{"toolSpec":{"name":"f","description":"Does.","inputSchema":{"json":{"type":"object","properties":{"a":{"type":"integer"}}}}}}]}}"#;
/// A turn of the model's, and the user's next.
const TURN: &str = r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]},{"role":"assistant","content":[{"text":"Yes"}]},{"role":"user","content":[{"text":"So?"}]}]}"#;
/// A call and its result.
const CALL: &str = r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]},{"role":"assistant","content":[{"text":"Yes"},{"toolUse":{"toolUseId":"t1","name":"f","input":{"a":1}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"t1","content":[{"text":"ok"}]}}]}],"toolConfig":{"tools":[{"toolSpec":{"name":"f","description":"Does.","inputSchema":{"json":{"type":"object","properties":{}}}}}]}}"#;

#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    // What is said.
    Probe::top("system[].text", "/system", r#"[{"text":"Be brief."}]"#),
    Probe::within("system[].cachePoint", "/system/1", r#"{"cachePoint":{"type":"default"}}"#, r#"{"system":[{"text":"Be brief."}]}"#),
    Probe::within("system[].guardContent", "/system/1", r#"{"guardContent":{"text":{"text":"Guarded."}}}"#, r#"{"system":[{"text":"Be brief."}]}"#),
    Probe::within("messages[]: role `assistant`", "/messages/1", r#"{"role":"assistant","content":[{"text":"Yes"}]}"#, r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}"#),
    Probe::within("messages[]: role `system`", "/messages/3", r#"{"role":"system","content":[{"text":"Be brief."}]}"#, TURN),
    Probe::top("messages[].content[].text", "/messages/0/content/1", r#"{"text":"Now."}"#),
    Probe::top("messages[].content[].image: bytes", "/messages/0/content/1", r#"{"image":{"format":"png","source":{"bytes":"iVBORw0KGgo="}}}"#),
    Probe::top("messages[].content[].image: s3Location", "/messages/0/content/1", r#"{"image":{"format":"png","source":{"s3Location":{"uri":"s3://b/x.png"}}}}"#),
    Probe::top("messages[].content[].document: bytes", "/messages/0/content/1", r#"{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBERi0="}}}"#),
    Probe::top("messages[].content[].document: text", "/messages/0/content/1", r#"{"document":{"format":"txt","name":"a","source":{"text":"Once."}}}"#),
    Probe::top("messages[].content[].document: content", "/messages/0/content/1", r#"{"document":{"format":"txt","name":"a","source":{"content":[{"text":"Once."}]}}}"#),
    Probe::within("messages[].content[].document.name", "/messages/0/content/0/document/name", r#""b""#, r#"{"messages":[{"role":"user","content":[{"document":{"format":"pdf","source":{"bytes":"JVBERi0="}}},{"text":"Hi"}]}]}"#),
    Probe::within("messages[].content[].document.context", "/messages/0/content/0/document/context", r#""c""#, r#"{"messages":[{"role":"user","content":[{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBERi0="}}},{"text":"Hi"}]}]}"#),
    Probe::within("messages[].content[].document.citations", "/messages/0/content/0/document/citations", r#"{"enabled":true}"#, r#"{"messages":[{"role":"user","content":[{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBERi0="}}},{"text":"Hi"}]}]}"#),
    Probe::top("messages[].content[].audio", "/messages/0/content/1", r#"{"audio":{"format":"wav","source":{"bytes":"UklGRg=="}}}"#),
    Probe::top("messages[].content[].video", "/messages/0/content/1", r#"{"video":{"format":"mp4","source":{"bytes":"AAAA"}}}"#),
    Probe::top("messages[].content[].guardContent", "/messages/0/content/1", r#"{"guardContent":{"text":{"text":"Guarded."}}}"#),
    Probe::top("messages[].content[].guardContent.text.qualifiers", "/messages/0/content/1", r#"{"guardContent":{"text":{"text":"Guarded.","qualifiers":["query"]}}}"#),
    Probe::top("messages[].content[].cachePoint", "/messages/0/content/1", r#"{"cachePoint":{"type":"default"}}"#),
    Probe::top("messages[].content[].cachePoint, with ttl", "/messages/0/content/1", r#"{"cachePoint":{"type":"default","ttl":"1h"}}"#),
    Probe::top("messages[].content[].searchResult", "/messages/0/content/1", r#"{"searchResult":{"source":"https://h/","title":"t","content":[{"text":"Once."}]}}"#),
    Probe::within("messages[].content[].reasoningContent, sealed", "/messages/1/content/0", r#"{"reasoningContent":{"reasoningText":{"text":"Hm.","signature":"c2VhbA=="}}}"#, r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]},{"role":"assistant","content":[{"text":"x"},{"text":"Yes"}]},{"role":"user","content":[{"text":"So?"}]}]}"#),
    Probe::within("messages[].content[].reasoningContent.redactedContent", "/messages/1/content/1", r#"{"reasoningContent":{"redactedContent":"c2VhbA=="}}"#, TURN),
    Probe::within("messages[].content[].citationsContent: text", "/messages/1/content/1", r#"{"citationsContent":{"content":[{"text":"So."}]}}"#, TURN),
    Probe::within("messages[].content[].citationsContent.citations", "/messages/1/content/1", r#"{"citationsContent":{"content":[{"text":"So."}],"citations":[{"title":"t"}]}}"#, TURN),
    Probe::within("messages[].content[].toolUse", "/messages/1/content/2", r#"{"toolUse":{"toolUseId":"t2","name":"f","input":{"a":2}}}"#, CALL),
    Probe::within("messages[].content[].toolResult: text", "/messages/2/content/0/toolResult/content", r#"[{"text":"other"}]"#, CALL),
    Probe::within("messages[].content[].toolResult: json", "/messages/2/content/0/toolResult/content", r#"[{"json":{"a":1}}]"#, CALL),
    Probe::within("messages[].content[].toolResult: image", "/messages/2/content/0/toolResult/content/1", r#"{"image":{"format":"png","source":{"bytes":"iVBORw0KGgo="}}}"#, CALL),
    Probe::within("messages[].content[].toolResult.status: error", "/messages/2/content/0/toolResult/status", r#""error""#, CALL),
    // Tools.
    Probe::within("toolConfig.tools[].toolSpec", "/toolConfig/tools/1", r#"{"toolSpec":{"name":"g","description":"Does.","inputSchema":{"json":{"type":"object","properties":{}}}}}"#, TOOL),
    Probe::within("toolConfig.tools[].toolSpec.description", "/toolConfig/tools/0/toolSpec/description", r#""Does more.""#, TOOL),
    Probe::within("toolConfig.tools[].toolSpec.inputSchema.json", "/toolConfig/tools/0/toolSpec/inputSchema/json", r#"{"type":"object","properties":{"b":{"type":"string"}}}"#, TOOL),
    Probe::within("toolConfig.tools[].toolSpec.inputSchema: other", "/toolConfig/tools/0/toolSpec/inputSchema/other", "1", TOOL),
    Probe::within("toolConfig.tools[].toolSpec.strict", "/toolConfig/tools/0/toolSpec/strict", "true", TOOL),
    Probe::within("toolConfig.tools[].systemTool", "/toolConfig/tools/1", r#"{"systemTool":{"name":"nova_grounding"}}"#, TOOL),
    Probe::within("toolConfig.tools[].cachePoint", "/toolConfig/tools/1", r#"{"cachePoint":{"type":"default"}}"#, TOOL),
    Probe::within("toolConfig.toolChoice: auto", "/toolConfig/toolChoice", r#"{"auto":{}}"#, TOOL).anyway(DEFAULT),
    Probe::within("toolConfig.toolChoice: any", "/toolConfig/toolChoice", r#"{"any":{}}"#, TOOL),
    Probe::within("toolConfig.toolChoice: tool", "/toolConfig/toolChoice", r#"{"tool":{"name":"f"}}"#, TOOL),
    // The shape of the reply.
    Probe::top("outputConfig.textFormat", "/outputConfig/textFormat", r#"{"type":"json_schema","structure":{"jsonSchema":{"schema":"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"],\"additionalProperties\":false}"}}}"#),
    Probe::within("outputConfig.textFormat.structure.jsonSchema.name", "/outputConfig/textFormat/structure/jsonSchema/name", r#""w""#, r#"{"outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"{\"type\":\"object\"}"}}}}}"#).anyway(LABEL),
    Probe::within("outputConfig.textFormat.structure.jsonSchema.description", "/outputConfig/textFormat/structure/jsonSchema/description", r#""What.""#, r#"{"outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"{\"type\":\"object\"}"}}}}}"#),
    Probe::top("outputConfig.effort", "/outputConfig/effort", r#""high""#),
    // How it is made.
    Probe::top("inferenceConfig.maxTokens", "/inferenceConfig/maxTokens", "500"),
    Probe::top("inferenceConfig.temperature", "/inferenceConfig/temperature", "0.5"),
    Probe::top("inferenceConfig.topP", "/inferenceConfig/topP", "0.5"),
    Probe::top("inferenceConfig.stopSequences", "/inferenceConfig/stopSequences", r#"["END"]"#),
    Probe::top("additionalModelRequestFields.top_k", "/additionalModelRequestFields", r#"{"top_k":5}"#),
    Probe::top("additionalModelRequestFields.thinking", "/additionalModelRequestFields", r#"{"thinking":{"type":"enabled","budget_tokens":2048}}"#),
    Probe::top("additionalModelRequestFields.reasoning_config", "/additionalModelRequestFields", r#"{"reasoning_config":{"type":"enabled","budget_tokens":2048}}"#),
    Probe::top("additionalModelRequestFields.reasoningConfig", "/additionalModelRequestFields", r#"{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"low"}}"#),
    Probe::within("additionalModelRequestFields.reasoningConfig.maxReasoningEffort: an unknown word", "/additionalModelRequestFields/reasoningConfig/maxReasoningEffort", r#""huge""#, r#"{"additionalModelRequestFields":{"reasoningConfig":{"type":"enabled"}}}"#),
    Probe::top("additionalModelRequestFields: others", "/additionalModelRequestFields", r#"{"frobnicate":1}"#),
    Probe::top("additionalModelResponseFieldPaths", "/additionalModelResponseFieldPaths", r#"["/stop_sequence"]"#),
    Probe::top("performanceConfig", "/performanceConfig", r#"{"latency":"optimized"}"#),
    Probe::top("serviceTier: flex", "/serviceTier", r#"{"type":"flex"}"#),
    Probe::top("serviceTier: priority", "/serviceTier", r#"{"type":"priority"}"#),
    // Around it.
    Probe::top("guardrailConfig", "/guardrailConfig", r#"{"guardrailIdentifier":"g","guardrailVersion":"1"}"#),
    Probe::top("promptVariables", "/promptVariables", r#"{"a":{"text":"x"}}"#),
    Probe::top("requestMetadata", "/requestMetadata", r#"{"k":"v"}"#),
    Probe::top("a field of no API", "/frobnicate", "1"),
];
