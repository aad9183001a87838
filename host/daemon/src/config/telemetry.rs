//! `telemetry`: where traces go.

use serde::{Deserialize, Serialize};

/// Traces (OpenTelemetry). What is not set here is taken from the standard variables: `OTEL_EXPORTER_OTLP_ENDPOINT`,
/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` with `OTEL_TRACES_SAMPLER_ARG`;
/// `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES` hold too, and `OTEL_SDK_DISABLED=true` switches all off.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where spans are sent, OTLP over HTTP: `/v1/traces` is added. Default: none, which makes no spans.
    pub otlp_endpoint: Option<String>,
    /// Of traces that begin here, the share that is kept, 0 to 1. A caller's `traceparent` decides for itself. Default 1.
    pub sample_ratio: f64,
    /// What this deployment is called. Default `waymark`.
    pub service_name: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 1.0, service_name: "waymark".into() }
    }
}

impl Telemetry {
    /// What the environment says where the file says nothing.
    pub(super) fn of_environment(&self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut own = self.clone();
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            own.otlp_endpoint = None;
            return own;
        }
        if own.otlp_endpoint.is_none() {
            // The variable for traces alone is the whole address.
            let whole = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
            own.otlp_endpoint = whole.or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        }
        if own.service_name == Self::default().service_name
            && let Some(name) = variable("OTEL_SERVICE_NAME")
        {
            own.service_name = name;
        }
        let sampler = variable("OTEL_TRACES_SAMPLER").unwrap_or_default();
        if own.sample_ratio == Self::default().sample_ratio {
            if sampler.ends_with("always_off") {
                own.sample_ratio = 0.0;
            } else if sampler.ends_with("traceidratio")
                && let Some(ratio) = variable("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.parse().ok())
            {
                own.sample_ratio = ratio;
            }
        }
        own
    }

    /// # Errors
    /// A value is out of its bounds; the message names the key.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((0.0..=1.0).contains(&self.sample_ratio), "telemetry.sample_ratio must be 0 to 1");
        if let Some(endpoint) = &self.otlp_endpoint {
            anyhow::ensure!(
                endpoint.starts_with("http://") || endpoint.starts_with("https://"),
                "telemetry.otlp_endpoint must begin with http:// or https://"
            );
        }
        Ok(())
    }

    /// The address that spans are sent to.
    #[must_use]
    pub fn traces_url(&self) -> Option<String> {
        let endpoint = self.otlp_endpoint.as_deref()?.trim_end_matches('/');
        Some(if endpoint.ends_with("/v1/traces") {
            endpoint.to_owned()
        } else {
            format!("{endpoint}/v1/traces")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    #[test]
    fn the_standard_variables_say_where_traces_go() {
        let own = load("[telemetry]\notlp_endpoint = \"http://collector:4318/\"\nservice_name = \"jobs\"\n")
            .unwrap();
        assert_eq!(own.telemetry.traces_url().as_deref(), Some("http://collector:4318/v1/traces"));
        let said = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => Some("http://other/v1/traces".to_owned()),
            "OTEL_SERVICE_NAME" => Some("others".to_owned()),
            "OTEL_TRACES_SAMPLER" => Some("parentbased_traceidratio".to_owned()),
            "OTEL_TRACES_SAMPLER_ARG" => Some("0.5".to_owned()),
            _ => None,
        };
        let kept = own.telemetry.of_environment(said);
        assert_eq!((kept.service_name.as_str(), kept.sample_ratio), ("jobs", 0.5));
        assert_eq!(kept.traces_url(), own.telemetry.traces_url(), "the file wins");
        let told = Telemetry::default().of_environment(said);
        assert_eq!(told.traces_url().as_deref(), Some("http://other/v1/traces"));
        assert_eq!(told.service_name, "others");
        let off = |name: &str| (name == "OTEL_SDK_DISABLED").then(|| "true".to_owned());
        assert_eq!(own.telemetry.of_environment(off).traces_url(), None);
        assert!(load("[telemetry]\nsample_ratio = 1.5\n").is_err());
        assert!(load("[telemetry]\notlp_endpoint = \"collector:4318\"\n").is_err());
    }
}
