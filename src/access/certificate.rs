//! Who a client's certificate names. That it is genuine was found when its connection was made.

use std::sync::Arc;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::grants::Principal;
use crate::pattern::Pattern;

/// The names in a certificate (RFC 5280 §4.1.2.6 and §4.2.1.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The common names of its subject.
    pub common: Vec<String>,
    /// The organisations of its subject.
    pub organizations: Vec<String>,
    /// Hosts.
    pub dns: Vec<String>,
    /// URIs, such as those of SPIFFE.
    pub uris: Vec<String>,
    /// E-mail addresses.
    pub emails: Vec<String>,
}

impl Names {
    /// Reads a certificate in DER; nothing where it is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let text =
            |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        let mut names = Self {
            common: subject.iter_common_name().filter_map(text).collect(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            ..Self::default()
        };
        let others = certificate.subject_alternative_name().ok().flatten();
        for name in others.iter().flat_map(|found| &found.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push(name.to_ascii_lowercase()),
                GeneralName::URI(name) => names.uris.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => names.emails.push((*name).to_owned()),
                _ => {}
            }
        }
        Some(names)
    }
}

/// Which certificates are whose: each pattern must match one of the names of its kind.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The common name.
    pub common: Option<Pattern>,
    /// The organisation.
    pub organization: Option<Pattern>,
    /// A host.
    pub dns: Option<Pattern>,
    /// A URI.
    pub uri: Option<Pattern>,
    /// An e-mail address.
    pub email: Option<Pattern>,
    /// Whose it is.
    pub principal: Arc<Principal>,
}

impl Rule {
    /// Whether a certificate with these names is meant. A rule without a pattern means none.
    pub fn means(&self, names: &Names) -> bool {
        let kinds = [
            (&self.common, &names.common),
            (&self.organization, &names.organizations),
            (&self.dns, &names.dns),
            (&self.uri, &names.uris),
            (&self.email, &names.emails),
        ];
        let fits = |pattern: &Pattern, found: &[String]| found.iter().any(|name| pattern.matches(name));
        kinds.iter().any(|(pattern, _)| pattern.is_some())
            && kinds
                .iter()
                .all(|(pattern, found)| pattern.as_ref().is_none_or(|pattern| fits(pattern, found)))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn rule(common: Option<&str>, dns: Option<&str>, uri: Option<&str>) -> Rule {
        let pattern = |text: Option<&str>| text.and_then(Pattern::parse);
        Rule {
            common: pattern(common),
            organization: None,
            dns: pattern(dns),
            uri: pattern(uri),
            email: None,
            principal: Arc::new(Principal::anonymous()),
        }
    }

    #[test]
    fn the_names_of_a_certificate_are_read() {
        let mut params = CertificateParams::new(vec!["App.Internal".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://acme/ns/a".try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("ops@acme.example".try_into().unwrap()));
        params.distinguished_name.push(DnType::CommonName, "app");
        params.distinguished_name.push(DnType::OrganizationName, "acme");
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let names = Names::of(made.der()).unwrap();
        let one = |text: &str| vec![text.to_owned()];
        let expected = Names {
            common: one("app"),
            organizations: one("acme"),
            dns: one("app.internal"),
            uris: one("spiffe://acme/ns/a"),
            emails: one("ops@acme.example"),
        };
        assert_eq!(names, expected);
        assert_eq!(Names::of(b"nonsense"), None);
    }

    #[test]
    fn a_rule_means_what_has_every_name_that_it_says() {
        let one = |text: &str| vec![text.to_owned()];
        let names = Names { common: one("app-1"), dns: one("a.internal"), ..Names::default() };
        assert!(rule(Some("app-*"), None, None).means(&names));
        assert!(rule(Some("app-*"), Some("*.internal"), None).means(&names));
        assert!(!rule(Some("app-*"), Some("*.example"), None).means(&names));
        assert!(!rule(None, None, Some("*")).means(&names), "there is no URI in it");
        assert!(!rule(None, None, None).means(&names));
    }
}
