//! Whether a build may have the seeded faults of `src/fault.rs`. A release never may.

/// The answer for what `VIGIL_FAULTS` says and for Cargo's `PROFILE`; an error when a release is asked to have them.
pub(crate) fn may_have_faults(asked: Option<&str>, profile: &str) -> Result<bool, String> {
    match (asked, profile) {
        (Some("1"), "debug") => Ok(true),
        (Some("1"), _) => Err(format!(
            "VIGIL_FAULTS=1 breaks the engine on purpose, and this is a {profile} build"
        )),
        _ => Ok(false),
    }
}
