//! Where a provider's API is: at one address for all, or at one that follows from the region.

use std::borrow::Cow;

/// Where an API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Every customer has one of their own.
    Own,
    /// The same for all.
    Fixed(Cow<'static, str>),
    /// Amazon Bedrock's runtime in a region.
    Bedrock,
    /// Amazon Bedrock's OpenAI and Anthropic endpoints ("mantle") in a region.
    Mantle,
    /// Google's Vertex AI in a location; what follows the project and the location in its paths.
    Vertex(&'static str),
}

/// Where in a cloud.
#[derive(Clone, Copy, Debug, Default)]
pub struct Location<'a> {
    /// The region: `us-east-1` of AWS, `europe-west4` or `global` of Google.
    pub region: Option<&'a str>,
    /// The project, of Google.
    pub project: Option<&'a str>,
    /// Whether the endpoint is to be one validated for FIPS 140, of AWS.
    pub fips: bool,
}

/// What has to be known besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The address itself.
    Address,
    /// The region.
    Region,
    /// The project.
    Project,
}

impl Address {
    /// The base URL, with its path where that follows from the location.
    ///
    /// # Errors
    ///
    /// Says what is missing.
    pub fn url(&self, at: &Location<'_>) -> Result<Cow<'static, str>, Missing> {
        let region = at.region.ok_or(Missing::Region);
        match self {
            Self::Own => Err(Missing::Address),
            Self::Fixed(url) => Ok(url.clone()),
            Self::Bedrock => {
                let region = region?;
                let host = if at.fips { "bedrock-runtime-fips" } else { "bedrock-runtime" };
                // The regions of China are a cloud of their own.
                let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                Ok(format!("https://{host}.{region}.{domain}").into())
            }
            Self::Mantle => Ok(format!("https://bedrock-mantle.{}.api.aws", region?).into()),
            Self::Vertex(below) => {
                let (region, project) = (region?, at.project.ok_or(Missing::Project)?);
                let host = match region {
                    "global" => "aiplatform.googleapis.com".to_owned(),
                    "us" | "eu" => format!("aiplatform.{region}.rep.googleapis.com"),
                    region => format!("{region}-aiplatform.googleapis.com"),
                };
                Ok(format!("https://{host}{}", vertex_path(project, region, below)).into())
            }
        }
    }

    /// The path before every operation's that follows from the location, where one does: for an address that was
    /// configured without any.
    pub fn path(&self, at: &Location<'_>) -> Option<String> {
        match self {
            Self::Vertex(below) => Some(vertex_path(at.project?, at.region?, below)),
            _ => None,
        }
    }
}

fn vertex_path(project: &str, region: &str, below: &str) -> String {
    format!("/v1/projects/{project}/locations/{region}{below}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_follows_from_the_place() {
        let at = |region, project, fips| Location { region: Some(region), project, fips };
        for (address, location, url) in [
            (
                Address::Bedrock,
                at("us-east-1", None, false),
                "https://bedrock-runtime.us-east-1.amazonaws.com",
            ),
            (
                Address::Bedrock,
                at("us-gov-west-1", None, true),
                "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
            ),
            (
                Address::Bedrock,
                at("cn-north-1", None, false),
                "https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
            ),
            (Address::Mantle, at("eu-west-1", None, false), "https://bedrock-mantle.eu-west-1.api.aws"),
            (
                Address::Vertex("/publishers/google"),
                at("europe-west4", Some("p-1"), false),
                "https://europe-west4-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west4/publishers/google",
            ),
            (
                Address::Vertex("/endpoints/openapi"),
                at("global", Some("p"), false),
                "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi",
            ),
            (
                Address::Vertex(""),
                at("eu", Some("p"), false),
                "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu",
            ),
        ] {
            assert_eq!(address.url(&location).unwrap(), url);
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let nowhere = Location::default();
        assert_eq!(Address::Own.url(&nowhere), Err(Missing::Address));
        assert_eq!(Address::Bedrock.url(&nowhere), Err(Missing::Region));
        assert_eq!(Address::Vertex("").url(&nowhere), Err(Missing::Region));
        let region = Location { region: Some("global"), ..nowhere };
        assert_eq!(Address::Vertex("").url(&region), Err(Missing::Project));
    }
}
