use std::sync::Arc;

use super::super::Request;
use super::super::script::{Script, start};
use super::*;

const DOCUMENT: &str = r#"{"Code":"Success","LastUpdated":"2026-11-21T09:00:00Z","Type":"AWS-HMAC",
    "AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"hidden-secret","Token":"hidden-token",
    "Expiration":"2026-11-21T15:08:07Z"}"#;

/// An answer of STS, with what stands between the tags of its credentials.
fn answer(action: &str, credentials: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <{action}Result>\n    \
         <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/demo/forebay</Arn></AssumedRoleUser>\n    \
         <Credentials>{credentials}</Credentials>\n  </{action}Result>\n  \
         <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\n</{action}Response>"
    )
}

fn credentials(id: &str) -> String {
    format!(
        "\n<SessionToken>\n hidden-token+/==\n </SessionToken><SecretAccessKey>hidden-secret</SecretAccessKey>\
         <Expiration>2026-11-21T10:08:07.359Z</Expiration><AccessKeyId>{id}</AccessKeyId>"
    )
}

/// What a script gives, and what it was asked.
async fn run(script: Script) -> (Result<Expiring<Credentials>, Error>, Vec<Request>) {
    let script = Arc::new(script);
    let obtained = obtain(&script.outside()).await;
    let asked = script.asked();
    assert!(!format!("{obtained:?} {asked:?}").contains("hidden"), "a secret is shown");
    (obtained, asked)
}

async fn error(script: Script) -> String {
    run(script).await.0.unwrap_err().to_string()
}

/// The id, secret and token, and seconds left.
fn parts(obtained: &Expiring<Credentials>) -> (&str, &str, Option<&str>, Option<u64>) {
    let Credentials { id, secret, token } = &obtained.value;
    let left = obtained.expires.map(|end| end.duration_since(start()).unwrap().as_secs());
    (id, secret.expose(), token.as_ref().map(Secret::expose), left)
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

const HOME: (&str, &str) = ("HOME", "/home/me");
const CREDENTIALS: &str = "/home/me/.aws/credentials";
const CONFIG: &str = "/home/me/.aws/config";

#[tokio::test]
async fn the_environment_goes_before_everything() {
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIA1"),
        ("AWS_SECRET_ACCESS_KEY", "hidden"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        HOME,
    ];
    let files = [(CREDENTIALS, "[default]\naws_access_key_id=AKIA2\naws_secret_access_key=hidden")];
    let (obtained, asked) = run(Script::new(&variables, &files)).await;
    assert_eq!(parts(&obtained.unwrap()), ("AKIA1", "hidden", None, None));
    assert!(asked.is_empty());
    let mut with_token = Script::new(&variables, &[]);
    with_token.variables.insert("AWS_SESSION_TOKEN".into(), "hidden-t".into());
    assert_eq!(parts(&run(with_token).await.0.unwrap()).2, Some("hidden-t"));
    let half = Script::new(&variables[..1], &[]);
    assert_eq!(error(half).await, "AWS_SECRET_ACCESS_KEY: is not set, though AWS_ACCESS_KEY_ID is");
}

#[tokio::test]
async fn a_profile_is_read_from_both_files() {
    let files = [
        (
            CREDENTIALS,
            "# mine\n[default]\naws_access_key_id = AKIA1 ; old\r\naws_secret_access_key=hid#den\n\
             [work]\nAWS_ACCESS_KEY_ID=AKIA2\naws_secret_access_key=hidden2\naws_session_token=hidden3\n",
        ),
        (
            CONFIG,
            "[default]\nregion = eu-west-1\naws_access_key_id = AKIA9\ns3 =\n  aws_access_key_id = no\n\
             [work]\nregion = not-this\n[profile \"work\"]\nregion=cn-north-1 # there\n[sso-session x]\na=b\n",
        ),
    ];
    let script = |variables: &[(&str, &str)]| Script::new(&[&[HOME], variables].concat(), &files);
    assert_eq!(parts(&run(script(&[])).await.0.unwrap()), ("AKIA1", "hid#den", None, None));
    let work = [("AWS_PROFILE", "work")];
    assert_eq!(parts(&run(script(&work)).await.0.unwrap()), ("AKIA2", "hidden2", Some("hidden3"), None));
    let region =
        |variables: &[(&str, &str)]| region(&Arc::new(script(variables)).outside()).unwrap().unwrap();
    assert_eq!(region(&[]), "eu-west-1");
    assert_eq!(region(&work), "cn-north-1");
    assert_eq!(region(&[("AWS_DEFAULT_REGION", "us-east-2")]), "us-east-2");
    assert_eq!(region(&[("AWS_DEFAULT_REGION", "us-east-2"), ("AWS_REGION", "us-west-2")]), "us-west-2");
    let elsewhere = Script::new(
        &[HOME, ("AWS_SHARED_CREDENTIALS_FILE", "~/keys")],
        &[("/home/me/keys", "[default]\naws_access_key_id=AKIA3\naws_secret_access_key=hidden")],
    );
    assert_eq!(parts(&run(elsewhere).await.0.unwrap()).0, "AKIA3");
}

#[tokio::test]
async fn a_profile_that_is_wrong_or_not_supported_says_so() {
    for (profile, says) in [
        ("sso_session = x", "profile `p`: IAM Identity Center (`sso_*`) is not supported"),
        ("sso_start_url = https://x", "IAM Identity Center"),
        ("credential_process = /bin/x", "profile `p`: `credential_process` is not supported"),
        ("login_session = x", "`aws login` is not supported"),
        ("role_arn = r\nsource_profile = q\nmfa_serial = m", "`mfa_serial` is not supported"),
        ("role_arn = r", "needs one of `source_profile`"),
        ("role_arn = r\nsource_profile = q\ncredential_source = Environment", "needs one of"),
        ("role_arn = r\nsource_profile = nobody", "profile `nobody`: is in neither"),
        ("role_arn = r\nsource_profile = empty", "profile `empty`: holds no credentials"),
        ("role_arn = r\nsource_profile = loop", "profile `loop`: rests on itself"),
        ("role_arn = r\nsource_profile = p", "profile `p`: holds no credentials"),
        (
            "role_arn = r\ncredential_source = Moon",
            "must be Environment, EcsContainer or Ec2InstanceMetadata",
        ),
        ("role_arn = r\ncredential_source = Environment", "AWS_ACCESS_KEY_ID is not set"),
        ("role_arn = r\ncredential_source = EcsContainer", "this is no such container"),
        ("aws_access_key_id = AKIA", "without the other"),
        ("aws_secret_access_key = hidden", "without the other"),
        ("nonsense", "/home/me/.aws/config:2: is neither"),
        ("[p", "/home/me/.aws/config:2: a section must end with `]`"),
    ] {
        let config = format!(
            "[profile p]\n{profile}\n[profile q]\naws_access_key_id=A\naws_secret_access_key=hidden\n\
             [profile empty]\nregion=x\n[profile loop]\nrole_arn=r\nsource_profile=p\n"
        );
        let error = error(Script::new(&[HOME, ("AWS_PROFILE", "p")], &[(CONFIG, &config)])).await;
        assert!(error.contains(says), "{profile}: {error}");
    }
    let nobody = Script::new(&[HOME, ("AWS_PROFILE", "nobody")], &[]);
    assert_eq!(
        error(nobody).await,
        "profile `nobody`: is in neither the credentials file nor the config file"
    );
    let stray = Script::new(&[HOME], &[(CONFIG, "region = x\n")]);
    assert_eq!(error(stray).await, "/home/me/.aws/config:1: stands before the first `[section]`");
}

#[tokio::test]
async fn a_role_is_taken_with_its_source_profiles_credentials() {
    let config = "[profile top]\nrole_arn = arn:aws:iam::1:role/top\nsource_profile = middle\nexternal_id = e/1\n\
                  duration_seconds = 900\nrole_session_name = me\nregion = eu-central-1\n\
                  [profile middle]\nrole_arn = arn:aws:iam::1:role/middle\nsource_profile = middle\n\
                  aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = hidden\n";
    let script = Script::new(&[HOME, ("AWS_PROFILE", "top")], &[(CONFIG, config)])
        .answering(200, answer("AssumeRole", &credentials("ASIAMIDDLE")))
        .answering(200, answer("AssumeRole", &credentials("ASIATOP")));
    let (obtained, asked) = run(script).await;
    assert_eq!(parts(&obtained.unwrap()), ("ASIATOP", "hidden-secret", Some("hidden-token+/=="), Some(3600)));
    let [middle, top] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((top.method.as_str(), top.url.as_str()), ("POST", "https://sts.eu-central-1.amazonaws.com/"));
    assert_eq!(
        middle.body.expose(),
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fmiddle\
         &RoleSessionName=forebay"
    );
    assert!(top.body.expose().ends_with("&RoleSessionName=me&DurationSeconds=900&ExternalId=e%2F1"));
    assert_eq!(header(top, "x-amz-date"), "20261121T090807Z");
    assert_eq!(header(top, "x-amz-security-token"), "hidden-token+/==");
    assert_eq!(header(middle, "x-amz-security-token"), "");
    let scope = "/20261121/eu-central-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date";
    assert!(header(middle, "authorization").contains(&format!("=AKIAIOSFODNN7EXAMPLE{scope}, ")));
    assert!(header(top, "authorization").contains(&format!("=ASIAMIDDLE{scope};x-amz-security-token, ")));
}

#[tokio::test]
async fn a_role_may_rest_on_a_named_source() {
    let from_container = "[default]\nrole_arn = r\ncredential_source = EcsContainer\n";
    let script = Script::new(
        &[HOME, ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")],
        &[(CONFIG, from_container)],
    );
    let script = script.answering(200, DOCUMENT).answering(200, answer("AssumeRole", &credentials("ASIA2")));
    let (obtained, asked) = run(script).await;
    assert_eq!(obtained.unwrap().value.id, "ASIA2");
    assert_eq!(asked[0].url, "http://169.254.170.2/v2/x");
    assert!(header(&asked[1], "authorization").contains("Credential=ASIAIOSFODNN7EXAMPLE/"));
}

#[tokio::test]
async fn a_web_identity_is_exchanged_without_a_signature() {
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/token"),
        ("AWS_ROLE_ARN", "arn:aws-cn:iam::1:role/x"),
        ("AWS_ROLE_SESSION_NAME", "pod"),
        ("AWS_REGION", "cn-north-1"),
    ];
    let script = Script::new(&variables, &[("/var/token", "hidden.jwt.x\n")])
        .answering(200, answer("AssumeRoleWithWebIdentity", &credentials("ASIA1")));
    let (obtained, asked) = run(script).await;
    assert_eq!(parts(&obtained.unwrap()), ("ASIA1", "hidden-secret", Some("hidden-token+/=="), Some(3600)));
    assert_eq!(asked[0].url, "https://sts.cn-north-1.amazonaws.com.cn/");
    assert_eq!(header(&asked[0], "authorization"), "");
    assert_eq!(
        asked[0].body.expose(),
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws-cn%3Aiam%3A%3A1%3Arole%2Fx\
         &RoleSessionName=pod&WebIdentityToken=hidden.jwt.x"
    );
    let missing = Script::new(&variables, &[]);
    assert!(error(missing).await.starts_with("/var/token: "));
    assert!(error(Script::new(&variables[..1], &[])).await.starts_with("AWS_ROLE_ARN: is not set"));
}

#[tokio::test]
async fn sts_is_asked_where_the_region_and_the_settings_say() {
    for (variables, url) in [
        (&[][..], "https://sts.amazonaws.com/"),
        (
            &[("AWS_REGION", "us-gov-west-1"), ("AWS_USE_FIPS_ENDPOINT", "TRUE")],
            "https://sts-fips.us-gov-west-1.amazonaws.com/",
        ),
        (
            &[("AWS_REGION", "x"), ("AWS_ENDPOINT_URL_STS", "http://localhost:4566/")],
            "http://localhost:4566/",
        ),
    ] {
        let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
        let script = Script::new(&[&identity, variables].concat(), &[("/t", "hidden")]).silent("refused");
        let (obtained, asked) = run(script).await;
        assert_eq!(asked[0].url, url);
        assert_eq!(obtained.unwrap_err().to_string(), format!("no answer from AWS STS at {url}: refused"));
    }
}

#[tokio::test]
async fn an_answer_of_sts_must_be_whole() {
    let good = credentials("ASIA1");
    let fields = "AccessKeyId SecretAccessKey SessionToken Expiration".split(' ');
    let mut cases: Vec<(String, String)> = fields
        .map(|name| {
            let gone =
                good.replace(&format!("<{name}>"), "<Other>").replace(&format!("</{name}>"), "</Other>");
            (answer("AssumeRole", &gone), format!("has not one `{name}`"))
        })
        .collect();
    cases.extend([
        (answer("AssumeRole", &format!("{good}{good}")), "has not one `AccessKeyId`".into()),
        (
            answer("AssumeRole", &good.replace("hidden-secret", "")),
            "`SecretAccessKey` that is not plain".into(),
        ),
        (
            answer("AssumeRole", &good.replace("hidden-secret", "hidden&amp;")),
            "that is not plain text".into(),
        ),
        (answer("AssumeRole", &good.replace("hidden-secret", "<b/>")), "that is not plain text".into()),
        (
            answer("AssumeRole", &good.replace("2026-11-21T", "tomorrow ")),
            "expiration that is no time".into(),
        ),
        ("<html>".into(), "has not one `Credentials`".into()),
        (String::new(), "has not one `Credentials`".into()),
    ]);
    for (body, says) in cases {
        let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
        let error = error(Script::new(&identity, &[("/t", "hidden")]).answering(200, body.clone())).await;
        assert!(error.starts_with("the reply of AWS STS ") && error.contains(&says), "{body}: {error}");
    }
    let refusal = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>\
                   <Message>Token\nexpired</Message></Error></ErrorResponse>";
    let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
    let refused = Script::new(&identity, &[("/t", "hidden")]).answering(400, refusal);
    assert_eq!(error(refused).await, "AWS STS answered 400: ExpiredTokenException: Tokenexpired");
}

#[tokio::test]
async fn a_container_is_asked_with_its_token() {
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
    let file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/token");
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hidden-plain");
    for (variables, authorization) in
        [(&[full, file, token][..], "hidden-file"), (&[full, token], "hidden-plain"), (&[full], "")]
    {
        let script = Script::new(variables, &[("/token", "hidden-file\n")]).answering(200, DOCUMENT);
        let (obtained, asked) = run(script).await;
        assert_eq!(
            parts(&obtained.unwrap()),
            ("ASIAIOSFODNN7EXAMPLE", "hidden-secret", Some("hidden-token"), Some(6 * 3600))
        );
        assert_eq!((asked[0].method.as_str(), asked[0].url.as_str()), ("GET", full.1));
        assert_eq!(header(&asked[0], "authorization"), authorization);
        assert_eq!(asked[0].timeout.as_secs(), 1);
    }
    let broken = Script::new(&[full, file], &[("/token", "hidden\r\nx: y")]);
    assert!(error(broken).await.contains("characters that a header cannot carry"));
}

#[tokio::test]
async fn a_token_goes_without_tls_only_to_hosts_that_are_near() {
    for (url, good) in [
        ("https://anywhere.example/x", true),
        ("http://localhost:1/x", true),
        ("http://127.0.0.1/x", true),
        ("http://127.9.9.9:80/x", true),
        ("http://[::1]/x", true),
        ("http://169.254.170.2/x", true),
        ("http://[fd00:ec2::23]/x", true),
        ("http://[fd00:ec2:0:0::23]/x", true),
        ("http://169.254.169.254/x", false),
        ("http://10.0.0.1/x", false),
        ("http://localhost.example/x", false),
        ("http://127.0.0.1.example/x", false),
        ("http://127.0.0.1@evil.example/x", false),
        ("http://example/127.0.0.1", false),
        ("ftp://127.0.0.1/x", false),
        ("/x", false),
        ("", false),
    ] {
        let script = Script::new(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)], &[]);
        let (obtained, asked) = run(script.answering(200, DOCUMENT)).await;
        let sent = asked.iter().any(|request| request.url == url);
        assert_eq!(sent, good, "{url}");
        assert_eq!(obtained.is_ok(), good, "{url}");
    }
    let relative = Script::new(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/")], &[]);
    assert!(error(relative).await.ends_with("must begin with `/`"));
}

#[tokio::test]
async fn a_document_must_be_whole() {
    for (status, body, says) in [
        (200, DOCUMENT.replace("AccessKeyId", "X"), "has no `AccessKeyId`"),
        (200, DOCUMENT.replace("hidden-secret", ""), "has no `SecretAccessKey`"),
        (200, DOCUMENT.replace("\"Token\"", "\"token\""), "has no `Token`"),
        (200, DOCUMENT.replace("Expiration", "X"), "has no `Expiration`"),
        (200, DOCUMENT.replace("2026-11-21T15", "soon"), "expiration that is no time"),
        (200, DOCUMENT.replace("\"hidden-secret\"", "[\"hidden\"]"), "is not the JSON expected, at line 2"),
        (200, DOCUMENT.replace("Success", "Failed"), "has the code Failed, not Success"),
        (200, "hidden".into(), "is not the JSON expected"),
        (404, "{\"code\":\"x\",\"message\":\"no role\"}".into(), "answered 404: no role"),
        (500, "<html>hidden".into(), "answered 500"),
    ] {
        let script = Script::new(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")], &[]);
        let error = error(script.answering(status, body)).await;
        assert!(error.contains("the container's credential service") && error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn an_instance_is_asked_for_a_session_first() {
    let script = Script::new(&[HOME], &[])
        .answering(200, "hidden-session")
        .answering(200, "my-role_1\n")
        .answering(200, DOCUMENT);
    let (obtained, asked) = run(script).await;
    assert_eq!(parts(&obtained.unwrap()).0, "ASIAIOSFODNN7EXAMPLE");
    let lines: Vec<_> = asked.iter().map(|request| format!("{} {}", request.method, request.url)).collect();
    let roles = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
    assert_eq!(
        lines,
        [
            "PUT http://169.254.169.254/latest/api/token".to_owned(),
            format!("GET {roles}"),
            format!("GET {roles}my-role_1"),
        ]
    );
    assert_eq!(header(&asked[0], "x-aws-ec2-metadata-token-ttl-seconds"), "60");
    for request in &asked[1..] {
        assert_eq!(header(request, "x-aws-ec2-metadata-token"), "hidden-session");
    }
    assert!(asked.iter().all(|request| request.timeout.as_secs() == 1));
}

#[tokio::test]
async fn an_instance_may_stand_elsewhere_or_say_no() {
    for (variables, url) in [
        (
            &[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")][..],
            "http://[fd00:ec2::254]/latest/api/token",
        ),
        (&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://h:1/")], "http://h:1/latest/api/token"),
    ] {
        let (obtained, asked) = run(Script::new(variables, &[]).answering(403, "")).await;
        assert_eq!(asked.len(), 1, "IMDSv1 was asked");
        assert_eq!(asked[0].url, url);
        assert_eq!(obtained.unwrap_err().to_string(), "the instance metadata service answered 403");
    }
    let odd = Script::new(&[], &[]).answering(200, "hidden").answering(200, "../../user-data");
    assert!(error(odd).await.contains("names no role"));
    let wrong = Script::new(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "v6")], &[]);
    assert!(error(wrong).await.ends_with("must be IPv4 or IPv6"));
}

#[tokio::test]
async fn where_nothing_is_configured_it_is_said_what_was_looked_for() {
    let off = Script::new(&[("AWS_EC2_METADATA_DISABLED", "True")], &[]);
    let (obtained, asked) = run(off).await;
    assert!(obtained.unwrap_err().to_string().contains("switched off by AWS_EC2_METADATA_DISABLED"));
    assert!(asked.is_empty());
    let elsewhere = Script::new(&[], &[]).silent("timed out");
    let says = error(elsewhere).await;
    assert!(says.starts_with("no credential is configured; looked for AWS_ACCESS_KEY_ID"), "{says}");
}

#[tokio::test]
async fn a_source_that_is_configured_and_fails_is_not_passed_over() {
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/gone"),
        ("AWS_ROLE_ARN", "r"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x"),
    ];
    let (obtained, asked) = run(Script::new(&variables, &[]).answering(200, DOCUMENT)).await;
    assert!(matches!(obtained, Err(Error::Setting { .. })));
    assert!(asked.is_empty());
}

#[test]
fn a_keeper_of_these_credentials_can_run_as_a_task() {
    fn sendable(_: impl Send) {}
    let refreshed = Arc::new(super::super::Refreshed::default());
    let outside = Arc::new(Script::new(&[], &[])).outside();
    sendable(async move { refreshed.keep("aws", || obtain(&outside), &outside.now).await });
}
