//! Commands about images and registries.

mod archive;
mod history;
mod list;
mod login;
mod remove;
mod transfer;

use super::command::{Arity, Command};
use super::container::{FORMAT_HELP, INSPECT_FORMAT_HELP};
use super::failure::Outcome;
use super::flags::{Flag, Matches, flag, switch};
use super::options::values;
use super::session::Session;
use ferry_api::client::{Request, segment};
use ferry_oci::reference::{InvalidReference, Reference};

pub(crate) use list::{LISTING as LIST, disk_usage_rows};
pub(crate) use transfer::pull_for_run;

static IMAGES: [Flag; 7] = [
    switch(
        "all",
        "Show all images (default hides intermediate and dangling images)",
    )
    .short('a'),
    switch("digests", "Show digests"),
    flag("filter", "filter", "Filter output based on conditions provided")
        .short('f')
        .check(values::filter),
    flag("format", "string", FORMAT_HELP),
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only show image IDs").short('q'),
    switch("tree", "List multi-platform images as a tree (EXPERIMENTAL)").unsupported(),
];

static CONTENT_TRUST: Flag = switch("disable-content-trust", "Skip image verification")
    .default("true")
    .deprecated("support for docker content trust was removed");

static PULL: [Flag; 4] = [
    switch("all-tags", "Download all tagged images in the repository").short('a'),
    CONTENT_TRUST,
    flag(
        "platform",
        "string",
        "Set platform if server is multi-platform capable",
    ),
    switch("quiet", "Suppress verbose output").short('q'),
];

static PUSH: [Flag; 4] = [
    switch("all-tags", "Push all tags of an image to the repository").short('a'),
    CONTENT_TRUST,
    flag(
        "platform",
        "string",
        "Push a platform-specific manifest as a single-platform image to the registry.
Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
    switch("quiet", "Suppress verbose output").short('q'),
];

static RMI: [Flag; 3] = [
    switch("force", "Force removal of the image").short('f'),
    switch("no-prune", "Do not delete untagged parents"),
    flag(
        "platform",
        "strings",
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

static LOAD: [Flag; 3] = [
    flag("input", "string", "Read from tar archive file, instead of STDIN").short('i'),
    flag(
        "platform",
        "strings",
        "Load only the given platform(s). Formatted as a comma-separated list of \"os[/arch[/variant]]\" (e.g., \"linux/amd64,linux/arm64/v8\").",
    ),
    switch("quiet", "Suppress the load output").short('q'),
];

static SAVE: [Flag; 2] = [
    flag("output", "string", "Write to a file, instead of STDOUT").short('o'),
    flag(
        "platform",
        "strings",
        "Save only the given platform(s). Formatted as a comma-separated list of \"os[/arch[/variant]]\" (e.g., \"linux/amd64,linux/arm64/v8\")",
    ),
];

static HISTORY: [Flag; 5] = [
    flag("format", "string", FORMAT_HELP),
    switch("human", "Print sizes and dates in human readable format")
        .short('H')
        .default("true"),
    switch("no-trunc", "Don't truncate output"),
    flag(
        "platform",
        "string",
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    switch("quiet", "Only show image IDs").short('q'),
];

static INSPECT: [Flag; 2] = [
    flag("format", "string", INSPECT_FORMAT_HELP).short('f'),
    flag(
        "platform",
        "string",
        "Inspect a specific platform of the multi-platform image.
If the image or the server is not multi-platform capable, the command will error out if the platform does not match.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
];

static PRUNE: [Flag; 3] = [
    switch("all", "Remove all unused images, not just dangling ones").short('a'),
    flag(
        "filter",
        "filter",
        "Provide filter values (e.g. \"until=<timestamp>\")",
    )
    .check(values::filter),
    switch("force", "Do not prompt for confirmation").short('f'),
];

static LOGIN: [Flag; 3] = [
    flag("password", "string", "Password or Personal Access Token (PAT)").short('p'),
    switch(
        "password-stdin",
        "Take the Password or Personal Access Token (PAT) from stdin",
    ),
    flag("username", "string", "Username").short('u'),
];

/// Commands about images and registries.
pub(crate) static COMMANDS: [Command; 12] = [
    Command::new(
        &["image ls", "image list", "images"],
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        Arity::Max(1),
        list::images,
    )
    .flags(&[&IMAGES])
    .aliases("image ls, image list, images")
    .top(7),
    Command::new(
        &["image pull", "pull"],
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        Arity::Exact(1),
        transfer::pull,
    )
    .flags(&[&PULL])
    .aliases("image pull, pull")
    .top(5),
    Command::new(
        &["image push", "push"],
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        Arity::Exact(1),
        transfer::push,
    )
    .flags(&[&PUSH])
    .aliases("image push, push")
    .top(6),
    Command::new(
        &["image rm", "image remove", "image rmi", "rmi"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        Arity::Min(1),
        remove::rmi,
    )
    .flags(&[&RMI])
    .aliases("image rm, image remove, rmi"),
    Command::new(
        &["image tag", "tag"],
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        Arity::Exact(2),
        tag,
    )
    .aliases("image tag, tag")
    .flags_first(),
    Command::new(
        &["image load", "load"],
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        Arity::None,
        archive::load,
    )
    .flags(&[&LOAD])
    .aliases("image load, load"),
    Command::new(
        &["image save", "save"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        Arity::Min(1),
        archive::save,
    )
    .flags(&[&SAVE])
    .aliases("image save, save"),
    Command::new(
        &["image history", "history"],
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        Arity::Exact(1),
        history::history,
    )
    .flags(&[&HISTORY])
    .aliases("image history, history"),
    Command::new(
        &["image inspect"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        Arity::Min(1),
        inspect,
    )
    .flags(&[&INSPECT]),
    Command::new(
        &["image prune"],
        "[OPTIONS]",
        "Remove unused images",
        Arity::None,
        remove::prune,
    )
    .flags(&[&PRUNE]),
    Command::new(
        &["login"],
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry",
        Arity::Max(1),
        login::login,
    )
    .flags(&[&LOGIN])
    .long("Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.")
    .top(8),
    Command::new(
        &["logout"],
        "[SERVER]",
        "Log out from a registry",
        Arity::Max(1),
        login::logout,
    )
    .long("Log out from a registry.\nIf no server is specified, the default is defined by the daemon.")
    .top(9),
];

/// Reads a reference; the error is in docker's words.
pub(crate) fn reference(text: &str) -> Result<Reference, String> {
    text.parse().map_err(|error| match error {
        InvalidReference::Uppercase => {
            let path = text.split('@').next().unwrap_or(text);
            let path = match path.rsplit_once(':') {
                Some((name, tag)) if !tag.contains('/') => name,
                _ => path,
            };
            // The first part is a registry when it could be a host.
            let name = match path.split_once('/') {
                Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest.to_owned(),
                Some(_) => path.to_owned(),
                None => format!("library/{path}"),
            };
            format!("invalid reference format: repository name ({name}) must be lowercase")
        }
        other => other.to_string(),
    })
}

/// A platform as the API's JSON.
pub(crate) fn platform_json(text: &str) -> Outcome<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let json = match parts.as_slice() {
        [os] if !os.is_empty() => serde_json::json!({"os": os}),
        [os, architecture] => serde_json::json!({"os": os, "architecture": architecture}),
        [os, architecture, variant] => {
            serde_json::json!({"os": os, "architecture": architecture, "variant": variant})
        }
        _ => {
            return Err(
                format!("{text:?}: unknown operating system or architecture: invalid argument").into(),
            );
        }
    };
    Ok(json.to_string())
}

/// Platforms of a flag that may be given several times or as a list.
pub(crate) fn platforms(m: &Matches) -> Outcome<Vec<String>> {
    m.all("platform")
        .iter()
        .flat_map(|p| p.split(','))
        .map(platform_json)
        .collect()
}

fn tag(session: &Session, m: &Matches) -> Outcome {
    let target = reference(m.arg(1)).map_err(|e| {
        format!(
            "Error parsing reference: {:?} is not a valid repository/tag: {e}",
            m.arg(1)
        )
    })?;
    let target = target.tagged();
    if target.digest().is_some() {
        return Err("refusing to create a tag with a digest reference".into());
    }
    let request = Request::post(format!("/images/{}/tag", segment(m.arg(0))))
        .query("repo", &target.familiar_name())
        .query("tag", target.tag().unwrap_or("latest"));
    session.call(request)
}

fn inspect(session: &Session, m: &Matches) -> Outcome {
    let platform = match m.get("platform") {
        "" => String::new(),
        text => platform_json(text)?,
    };
    super::container::inspect_one(m, |name| {
        session
            .json(Request::get(format!("/images/{}/json", segment(name))).query_some("platform", &platform))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_references_are_named() {
        for (text, want) in [
            (
                "Bad",
                "invalid reference format: repository name (library/Bad) must be lowercase",
            ),
            (
                "host:5000/a/Bad:1",
                "invalid reference format: repository name (a/Bad) must be lowercase",
            ),
            ("a b", "invalid reference format"),
        ] {
            assert_eq!(reference(text).unwrap_err(), want);
        }
        assert!(platform_json("linux/arm64/v8").is_ok_and(|j| j.contains("v8")));
        assert!(platform_json("").is_err());
    }
}
