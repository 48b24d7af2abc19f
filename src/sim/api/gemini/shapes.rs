//! The bodies that Gemini takes, as its API reference and the google-genai SDK's types have them.

use crate::sim::api::shape::Shape;

/// `generateContent` and `streamGenerateContent`.
pub(crate) static GENERATE: Shape = Shape::Members(&[
    ("model", Shape::Text),
    ("contents", Shape::Must(&Shape::List(&CONTENT))),
    ("systemInstruction", Shape::Same(&CONTENT)),
    ("tools", Shape::List(&TOOL)),
    ("toolConfig", Shape::Same(&TOOL_CONFIG)),
    ("safetySettings", SAFETY),
    ("generationConfig", Shape::Same(&CONFIG)),
    ("cachedContent", Shape::Text),
    ("serviceTier", Shape::Text),
    ("labels", Shape::Map(&Shape::Text)),
    ("store", Shape::Flag),
]);

/// `countTokens`: the contents, or a whole request; on Vertex AI the members of both.
pub(crate) static COUNT: Shape = Shape::Members(&[
    ("contents", Shape::List(&CONTENT)),
    ("generateContentRequest", Shape::Same(&GENERATE)),
    ("systemInstruction", Shape::Same(&CONTENT)),
    ("tools", Shape::List(&TOOL)),
    ("generationConfig", Shape::Same(&CONFIG)),
]);

static CONTENT: Shape = Shape::Members(&[("role", Shape::Text), ("parts", Shape::Must(&Shape::List(&PART)))]);

static PART: Shape = Shape::Members(&[
    ("text", Shape::Text),
    ("thought", Shape::Flag),
    ("thoughtSignature", Shape::Text),
    (
        "inlineData",
        Shape::Members(&[
            ("mimeType", Shape::Must(&Shape::Text)),
            ("data", Shape::Must(&Shape::Text)),
            ("displayName", Shape::Text),
        ]),
    ),
    (
        "fileData",
        Shape::Members(&[
            ("mimeType", Shape::Text),
            ("fileUri", Shape::Must(&Shape::Text)),
            ("displayName", Shape::Text),
        ]),
    ),
    (
        "functionCall",
        Shape::Members(&[("id", Shape::Text), ("name", Shape::Must(&Shape::Text)), ("args", Shape::Object)]),
    ),
    (
        "functionResponse",
        Shape::Members(&[
            ("id", Shape::Text),
            ("name", Shape::Must(&Shape::Text)),
            ("response", Shape::Must(&Shape::Object)),
            ("parts", Shape::List(&Shape::Object)),
            ("willContinue", Shape::Flag),
            ("scheduling", Shape::Text),
        ]),
    ),
    ("executableCode", Shape::Object),
    ("codeExecutionResult", Shape::Object),
    ("videoMetadata", Shape::Object),
    ("mediaResolution", Shape::Object),
    ("partMetadata", Shape::Object),
]);

static TOOL: Shape = Shape::Members(&[
    ("functionDeclarations", Shape::List(&DECLARATION)),
    ("googleSearch", Shape::Object),
    ("googleSearchRetrieval", Shape::Object),
    ("codeExecution", Shape::Object),
    ("urlContext", Shape::Object),
    ("computerUse", Shape::Object),
    ("fileSearch", Shape::Object),
    ("googleMaps", Shape::Object),
]);

static DECLARATION: Shape = Shape::Members(&[
    ("name", Shape::Must(&Shape::Text)),
    ("description", Shape::Text),
    ("behavior", Shape::Text),
    ("parameters", Shape::Same(&SCHEMA)),
    ("parametersJsonSchema", Shape::Object),
    ("response", Shape::Same(&SCHEMA)),
    ("responseJsonSchema", Shape::Object),
]);

/// Gemini's own schemas: a part of OpenAPI's, and nothing else of JSON Schema.
static SCHEMA: Shape = Shape::Members(&[
    ("type", Shape::Text),
    ("format", Shape::Text),
    ("title", Shape::Text),
    ("description", Shape::Text),
    ("nullable", Shape::Flag),
    ("enum", Shape::List(&Shape::Text)),
    ("items", Shape::Same(&SCHEMA)),
    ("minItems", Shape::Whole),
    ("maxItems", Shape::Whole),
    ("properties", Shape::Map(&SCHEMA)),
    ("required", Shape::List(&Shape::Text)),
    ("propertyOrdering", Shape::List(&Shape::Text)),
    ("minProperties", Shape::Whole),
    ("maxProperties", Shape::Whole),
    ("minLength", Shape::Whole),
    ("maxLength", Shape::Whole),
    ("pattern", Shape::Text),
    ("minimum", Shape::Number),
    ("maximum", Shape::Number),
    ("example", Shape::Any),
    ("default", Shape::Any),
    ("anyOf", Shape::List(&SCHEMA)),
    // Of late these too.
    ("additionalProperties", Shape::Any),
    ("ref", Shape::Text),
    ("defs", Shape::Map(&SCHEMA)),
]);

static TOOL_CONFIG: Shape = Shape::Members(&[
    (
        "functionCallingConfig",
        Shape::Members(&[
            ("mode", Shape::Choice(&["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"])),
            ("allowedFunctionNames", Shape::List(&Shape::Text)),
            ("streamFunctionCallArguments", Shape::Flag),
        ]),
    ),
    ("retrievalConfig", Shape::Object),
    ("includeServerSideToolInvocations", Shape::Flag),
]);

const SAFETY: Shape = Shape::List(&Shape::Members(&[
    ("category", Shape::Must(&Shape::Text)),
    ("threshold", Shape::Must(&Shape::Text)),
    ("method", Shape::Text),
]));

static CONFIG: Shape = Shape::Members(&[
    ("temperature", Shape::Number),
    ("topP", Shape::Number),
    ("topK", Shape::Number),
    ("candidateCount", Shape::Whole),
    ("maxOutputTokens", Shape::Whole),
    ("stopSequences", Shape::List(&Shape::Text)),
    ("responseMimeType", Shape::Text),
    ("responseSchema", Shape::Same(&SCHEMA)),
    ("responseJsonSchema", Shape::Any),
    ("responseFormat", Shape::Object),
    ("presencePenalty", Shape::Number),
    ("frequencyPenalty", Shape::Number),
    ("seed", Shape::Whole),
    ("responseLogprobs", Shape::Flag),
    ("logprobs", Shape::Whole),
    (
        "thinkingConfig",
        Shape::Members(&[
            ("includeThoughts", Shape::Flag),
            ("thinkingBudget", Shape::Whole),
            (
                "thinkingLevel",
                Shape::Choice(&["THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"]),
            ),
        ]),
    ),
    ("responseModalities", Shape::List(&Shape::Text)),
    ("speechConfig", Shape::Object),
    ("imageConfig", Shape::Object),
    ("mediaResolution", Shape::Text),
    ("enableEnhancedCivicAnswers", Shape::Flag),
    ("audioTimestamp", Shape::Flag),
    ("routingConfig", Shape::Object),
]);
