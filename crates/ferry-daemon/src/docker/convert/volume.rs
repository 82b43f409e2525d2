//! Volumes into answers.

use ferry_api::docker::time::rfc3339;
use ferry_api::docker::volume::{UsageData, Volume};
use ferry_engine::volumes::VolumeView;

/// The label by which clients know a volume that was made without a name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume; with its use for `system df`.
pub fn volume(view: &VolumeView, usage: bool) -> Volume {
    #[rustfmt::skip]
    let VolumeView {
        name, driver, mountpoint, labels, options, created, scope, anonymous, in_use, size,
    } = view;
    let mut labels = labels.clone();
    if *anonymous {
        labels.entry(ANONYMOUS.into()).or_default();
    }
    let usage = usage.then(|| UsageData {
        ref_count: i64::try_from(in_use.len()).unwrap_or(i64::MAX),
        size: size.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)),
    });
    Volume {
        created_at: rfc3339(*created),
        driver: driver.clone(),
        labels: (!labels.is_empty()).then_some(labels),
        mountpoint: mountpoint.clone(),
        name: name.clone(),
        options: (!options.is_empty()).then(|| options.clone()),
        scope: (*scope).to_owned(),
        status: None,
        usage_data: usage,
    }
}
