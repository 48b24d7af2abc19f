//! What a route's requests must keep to.

use super::{Check, plain};
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Config, RedactAction, RedactKind, RoutePolicy};
use crate::filter::policy::{Action, Bounds, Most, Parameters, Policy, Redact, Schema, System};
use crate::filter::redact::{Kind, Kinds};

/// The largest schema that is read, bytes.
const SCHEMA: u64 = 4 << 20;

/// The policy of a route; nothing where it has none.
pub(super) fn policy(
    route: &schema::Route,
    path: &Path,
    config: &Config,
    check: &mut Check<'_>,
) -> Option<Box<Policy>> {
    let path = path.key("policy");
    let written = route.policy.as_ref()?;
    if route.raw {
        check.error(&path, "a raw route reads no body", "remove it, or `raw: true`");
        return None;
    }
    if written.audit_prompts && config.audit.file.is_none() && config.audit.http.is_none() {
        let help = "add `audit.file` or `audit.http`";
        check.warning(&path.key("audit_prompts"), "without effect: there is no audit log", help);
    }
    if written.redact.action == RedactAction::Refuse && written.redact.request.is_empty() {
        let help = "name what `redact.request` is to look for";
        check.warning(&path.key("redact").key("action"), "without effect: nothing is looked for", help);
    }
    let system =
        written.system.as_ref().and_then(|system| compile_system(system, &path.key("system"), check));
    let schema =
        written.schema.as_ref().and_then(|schema| compile_schema(schema, &path.key("schema"), check));
    Some(Box::new(Policy {
        most: Most {
            messages: written.max_messages,
            input_tokens: written.max_input_tokens,
            tools: written.max_tools,
        },
        parameters: parameters(&written.parameters, &path.key("parameters"), check),
        system,
        schema,
        redact: redact(written),
        prompts: written.audit_prompts,
    }))
}

fn redact(written: &RoutePolicy) -> Redact {
    Redact {
        request: kinds(&written.redact.request),
        reply: kinds(&written.redact.reply),
        action: match written.redact.action {
            RedactAction::Redact => Action::Redact,
            RedactAction::Refuse => Action::Refuse,
        },
    }
}

fn kinds(written: &[RedactKind]) -> Kinds {
    Kinds::of(written.iter().map(|kind| match kind {
        RedactKind::Secret => Kind::Secret,
        RedactKind::Email => Kind::Email,
        RedactKind::Iban => Kind::Iban,
        RedactKind::Card => Kind::Card,
        RedactKind::NationalId => Kind::NationalId,
        RedactKind::Ip => Kind::Ip,
        RedactKind::Phone => Kind::Phone,
    }))
}

fn parameters(written: &schema::Parameters, path: &Path, check: &mut Check<'_>) -> Parameters {
    let bounds = written.bounds.iter().map(|(name, bounds)| {
        if let (Some(min), Some(max)) = (bounds.min, bounds.max)
            && min > max
        {
            let path = path.key("bounds").key(name).key("min");
            check.error(&path, format!("more than max, {max}"), "no number is between them; change one");
        }
        (name.clone(), Bounds { min: bounds.min, max: bounds.max })
    });
    let bounds = bounds.collect();
    Parameters { allow: written.allow.clone(), deny: written.deny.clone(), bounds }
}

fn compile_system(system: &schema::SystemPrompt, path: &Path, check: &mut Check<'_>) -> Option<System> {
    match (&system.set, &system.prefix) {
        (Some(text), None) => Some(System::Set(text.clone())),
        (None, Some(text)) => Some(System::Prefix(text.clone())),
        (Some(_), Some(_)) => {
            check.error(path, "both `set` and `prefix`", "keep one of the two");
            None
        }
        (None, None) => {
            check.error(
                path,
                "neither `set` nor `prefix`",
                "write what the model is to be told, or remove it",
            );
            None
        }
    }
}

fn compile_schema(schema: &schema::BodySchema, path: &Path, check: &mut Check<'_>) -> Option<Schema> {
    let file = check.file(&schema.file);
    let path = path.key("file");
    let read = std::fs::metadata(&file).and_then(|metadata| {
        if metadata.len() > SCHEMA {
            return Err(std::io::Error::other("larger than 4 MiB"));
        }
        std::fs::read_to_string(&file)
    });
    let text = match read {
        Ok(text) => text,
        Err(error) => {
            let message = format!("{}: {}", file.display(), plain(&error));
            check.error(&path, message, "give a path that this user can read");
            return None;
        }
    };
    let most = usize::try_from(schema.max_body.0).unwrap_or(usize::MAX);
    match Schema::new(&text, most) {
        Ok(schema) => Some(schema),
        Err(why) => {
            let message = format!("{} is no schema: {why}", file.display());
            check.error(&path, message, "correct it; https://json-schema.org has the language");
            None
        }
    }
}
