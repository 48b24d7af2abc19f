//! Gemini `generateContent`.

use super::{DEFAULT, Probe};

/// One tool.
const TOOL: &str = r#"{"tools":[{"functionDeclarations":[{"name":"f","description":"Does.","parametersJsonSchema":{"type":"object","properties":{"a":{"type":"integer"}}}}]}]}"#;
/// A turn of the model's, and the user's next.
const TURN: &str = r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]},{"role":"model","parts":[{"text":"Yes"}]},{"role":"user","parts":[{"text":"So?"}]}]}"#;
/// A call and its result.
const CALL: &str = r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]},{"role":"model","parts":[{"text":"Yes"},{"functionCall":{"id":"c1","name":"f","args":{"a":1}}}]},{"role":"user","parts":[{"functionResponse":{"id":"c1","name":"f","response":{"result":"ok"}}}]}],"tools":[{"functionDeclarations":[{"name":"f","description":"Does.","parametersJsonSchema":{"type":"object","properties":{}}}]}]}"#;
/// An image.
const IMAGE: &str = r#"{"contents":[{"role":"user","parts":[{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}},{"text":"Hi"}]}]}"#;

#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    // What is said.
    Probe::top("systemInstruction", "/systemInstruction", r#"{"parts":[{"text":"Be brief."}]}"#),
    Probe::within("contents[]: role `model`", "/contents/1", r#"{"role":"model","parts":[{"text":"Yes"}]}"#, r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#),
    Probe::top("contents[].parts[].text", "/contents/0/parts/1", r#"{"text":"Now."}"#),
    Probe::top("contents[].parts[].inlineData: image", "/contents/0/parts/1", r#"{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}"#),
    Probe::top("contents[].parts[].inlineData: audio", "/contents/0/parts/1", r#"{"inlineData":{"mimeType":"audio/wav","data":"UklGRg=="}}"#),
    Probe::top("contents[].parts[].inlineData: PDF", "/contents/0/parts/1", r#"{"inlineData":{"mimeType":"application/pdf","data":"JVBERi0="}}"#),
    Probe::top("contents[].parts[].inlineData: video", "/contents/0/parts/1", r#"{"inlineData":{"mimeType":"video/mp4","data":"AAAA"}}"#),
    Probe::within("contents[].parts[].inlineData.displayName", "/contents/0/parts/0/inlineData/displayName", r#""x""#, IMAGE),
    Probe::top("contents[].parts[].fileData: http URL", "/contents/0/parts/1", r#"{"fileData":{"mimeType":"image/png","fileUri":"https://h/x.png"}}"#),
    Probe::top("contents[].parts[].fileData: Files API", "/contents/0/parts/1", r#"{"fileData":{"mimeType":"image/png","fileUri":"https://generativelanguage.googleapis.com/v1beta/files/x"}}"#),
    Probe::within("contents[].parts[].mediaResolution", "/contents/0/parts/0/mediaResolution", r#"{"level":"MEDIA_RESOLUTION_LOW"}"#, IMAGE),
    Probe::within("contents[].parts[].videoMetadata", "/contents/0/parts/0/videoMetadata", r#"{"fps":1}"#, IMAGE),
    Probe::within("contents[].parts[]: thought", "/contents/1/parts/1", r#"{"text":"Hm.","thought":true}"#, TURN),
    Probe::within("contents[].parts[].thoughtSignature on text", "/contents/1/parts/0/thoughtSignature", r#""c2VhbA==""#, TURN),
    Probe::within("contents[].parts[].thoughtSignature on a call", "/contents/1/parts/1/thoughtSignature", r#""c2VhbA==""#, CALL),
    Probe::within("contents[].parts[].functionCall", "/contents/1/parts/2", r#"{"functionCall":{"id":"c2","name":"f","args":{"a":2}}}"#, CALL),
    Probe::within("contents[].parts[].functionResponse", "/contents/2/parts/0/functionResponse/response", r#"{"result":"other"}"#, CALL),
    Probe::within("contents[].parts[].functionResponse: an error", "/contents/2/parts/0/functionResponse/response", r#"{"error":"bad"}"#, CALL),
    Probe::within("contents[].parts[].functionResponse.parts", "/contents/2/parts/0/functionResponse/parts", r#"[{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}]"#, CALL),
    Probe::within("contents[].parts[].functionResponse.scheduling", "/contents/2/parts/0/functionResponse/scheduling", r#""SILENT""#, CALL),
    Probe::within("contents[].parts[].executableCode", "/contents/1/parts/1", r#"{"executableCode":{"language":"PYTHON","code":"1"}}"#, TURN),
    Probe::within("contents[].parts[].codeExecutionResult", "/contents/1/parts/1", r#"{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1"}}"#, TURN),
    // Tools.
    Probe::within("tools[].functionDeclarations[]", "/tools/0/functionDeclarations/1", r#"{"name":"g","description":"Does.","parametersJsonSchema":{"type":"object","properties":{}}}"#, TOOL),
    Probe::within("tools[].functionDeclarations[].description", "/tools/0/functionDeclarations/0/description", r#""Does more.""#, TOOL),
    Probe::within("tools[].functionDeclarations[].parametersJsonSchema", "/tools/0/functionDeclarations/0/parametersJsonSchema", r#"{"type":"object","properties":{"b":{"type":"string"}}}"#, TOOL),
    Probe::within("tools[].functionDeclarations[].parameters", "/tools/0/functionDeclarations/0/parameters", r#"{"type":"OBJECT","properties":{"b":{"type":"STRING","nullable":true}}}"#, r#"{"tools":[{"functionDeclarations":[{"name":"f","description":"Does."}]}]}"#),
    Probe::within("tools[].functionDeclarations[].response", "/tools/0/functionDeclarations/0/response", r#"{"type":"OBJECT"}"#, TOOL),
    Probe::within("tools[].functionDeclarations[].behavior", "/tools/0/functionDeclarations/0/behavior", r#""NON_BLOCKING""#, TOOL),
    Probe::within("tools[].googleSearch", "/tools/1", r#"{"googleSearch":{}}"#, TOOL),
    Probe::within("tools[].codeExecution", "/tools/1", r#"{"codeExecution":{}}"#, TOOL),
    Probe::within("toolConfig.functionCallingConfig: AUTO", "/toolConfig", r#"{"functionCallingConfig":{"mode":"AUTO"}}"#, TOOL).anyway(DEFAULT),
    Probe::within("toolConfig.functionCallingConfig: NONE", "/toolConfig", r#"{"functionCallingConfig":{"mode":"NONE"}}"#, TOOL),
    Probe::within("toolConfig.functionCallingConfig: ANY", "/toolConfig", r#"{"functionCallingConfig":{"mode":"ANY"}}"#, TOOL),
    Probe::within("toolConfig.functionCallingConfig: VALIDATED", "/toolConfig", r#"{"functionCallingConfig":{"mode":"VALIDATED"}}"#, TOOL).anyway("is what the upstream does where nothing is said, as well as it can"),
    Probe::within("toolConfig.functionCallingConfig.allowedFunctionNames: one", "/toolConfig", r#"{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f"]}}"#, TOOL),
    Probe::within("toolConfig.functionCallingConfig.allowedFunctionNames: one, AUTO", "/toolConfig/functionCallingConfig/allowedFunctionNames", r#"["f"]"#, r#"{"tools":[{"functionDeclarations":[{"name":"f","description":"Does."},{"name":"g","description":"Does."}]}],"toolConfig":{"functionCallingConfig":{"mode":"VALIDATED"}}}"#),
    Probe::within("toolConfig.functionCallingConfig.allowedFunctionNames: several", "/toolConfig", r#"{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f","g"]}}"#, r#"{"tools":[{"functionDeclarations":[{"name":"f","description":"Does."},{"name":"g","description":"Does."},{"name":"h","description":"Does."}]}]}"#),
    Probe::within("toolConfig.functionCallingConfig.streamFunctionCallArguments", "/toolConfig/functionCallingConfig/streamFunctionCallArguments", "true", r#"{"toolConfig":{"functionCallingConfig":{"mode":"AUTO"}},"tools":[{"functionDeclarations":[{"name":"f","description":"Does."}]}]}"#),
    Probe::within("toolConfig.retrievalConfig", "/toolConfig/retrievalConfig", r#"{"languageCode":"en"}"#, TOOL),
    // The shape of the reply.
    Probe::top("generationConfig.responseMimeType: application/json", "/generationConfig/responseMimeType", r#""application/json""#),
    Probe::top("generationConfig.responseMimeType: text/x.enum", "/generationConfig/responseMimeType", r#""text/x.enum""#),
    Probe::within("generationConfig.responseJsonSchema", "/generationConfig/responseJsonSchema", r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}"#, r#"{"generationConfig":{"responseMimeType":"application/json"}}"#),
    Probe::within("generationConfig.responseSchema", "/generationConfig/responseSchema", r#"{"type":"OBJECT","properties":{"a":{"type":"INTEGER"}},"required":["a"]}"#, r#"{"generationConfig":{"responseMimeType":"application/json"}}"#),
    Probe::top("generationConfig.responseModalities", "/generationConfig/responseModalities", r#"["TEXT","IMAGE"]"#),
    Probe::top("generationConfig.speechConfig", "/generationConfig/speechConfig", r#"{"languageCode":"en-US"}"#),
    Probe::top("generationConfig.imageConfig", "/generationConfig/imageConfig", r#"{"aspectRatio":"1:1"}"#),
    // How it is made.
    Probe::top("generationConfig.maxOutputTokens", "/generationConfig/maxOutputTokens", "500"),
    Probe::top("generationConfig.temperature", "/generationConfig/temperature", "0.5"),
    Probe::top("generationConfig.temperature: above 1", "/generationConfig/temperature", "1.5"),
    Probe::top("generationConfig.topP", "/generationConfig/topP", "0.5"),
    Probe::top("generationConfig.topK", "/generationConfig/topK", "5"),
    Probe::top("generationConfig.frequencyPenalty", "/generationConfig/frequencyPenalty", "0.5"),
    Probe::top("generationConfig.presencePenalty", "/generationConfig/presencePenalty", "0.5"),
    Probe::top("generationConfig.seed", "/generationConfig/seed", "7"),
    Probe::top("generationConfig.responseLogprobs", "/generationConfig/responseLogprobs", "true"),
    Probe::within("generationConfig.logprobs", "/generationConfig/logprobs", "2", r#"{"generationConfig":{"responseLogprobs":true}}"#),
    Probe::top("generationConfig.candidateCount", "/generationConfig/candidateCount", "2"),
    Probe::top("generationConfig.stopSequences", "/generationConfig/stopSequences", r#"["END"]"#),
    Probe::top("generationConfig.thinkingConfig.thinkingLevel", "/generationConfig/thinkingConfig", r#"{"thinkingLevel":"HIGH"}"#),
    Probe::top("generationConfig.thinkingConfig.thinkingBudget", "/generationConfig/thinkingConfig", r#"{"thinkingBudget":2048}"#),
    Probe::top("generationConfig.thinkingConfig.thinkingBudget: 0", "/generationConfig/thinkingConfig", r#"{"thinkingBudget":0}"#),
    Probe::top("generationConfig.thinkingConfig.thinkingBudget: -1", "/generationConfig/thinkingConfig", r#"{"thinkingBudget":-1}"#),
    Probe::within("generationConfig.thinkingConfig.includeThoughts: true", "/generationConfig/thinkingConfig/includeThoughts", "true", r#"{"generationConfig":{"thinkingConfig":{"thinkingLevel":"HIGH"}}}"#),
    Probe::within("generationConfig.thinkingConfig.includeThoughts: false", "/generationConfig/thinkingConfig/includeThoughts", "false", r#"{"generationConfig":{"thinkingConfig":{"thinkingLevel":"HIGH"}}}"#).anyway("reasoning is not shown where it is not asked for"),
    Probe::top("generationConfig.mediaResolution", "/generationConfig/mediaResolution", r#""MEDIA_RESOLUTION_LOW""#),
    Probe::top("generationConfig.audioTimestamp", "/generationConfig/audioTimestamp", "true"),
    Probe::top("generationConfig.routingConfig", "/generationConfig/routingConfig", r#"{"autoMode":{}}"#),
    Probe::top("serviceTier: flex", "/serviceTier", r#""flex""#),
    Probe::top("serviceTier: standard", "/serviceTier", r#""standard""#),
    // Around it.
    Probe::top("safetySettings", "/safetySettings", r#"[{"category":"HARM_CATEGORY_HARASSMENT","threshold":"BLOCK_NONE"}]"#),
    Probe::top("cachedContent", "/cachedContent", r#""cachedContents/x""#),
    Probe::top("labels", "/labels", r#"{"k":"v"}"#),
    Probe::top("modelArmorConfig", "/modelArmorConfig", r#"{"promptTemplateName":"x"}"#),
    Probe::top("store", "/store", "true"),
    Probe::top("a field of no API", "/frobnicate", "1"),
];
