//! `images`

use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::options::values;
use crate::cli::output::json::Json;
use crate::cli::output::listing::{self, Listing};
use crate::cli::output::{self, clock, short_id, units};
use crate::cli::session::Session;
use ferry_api::client::Request;
use ferry_oci::reference::Reference;

/// The rows of `images`.
pub(crate) static LISTING: Listing = Listing {
    columns: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ],
    table: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
    quiet: "{{.ID}}",
    kind: "formatter.imageContext",
};

const WITH_DIGESTS: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

/// `images`
pub(super) fn images(session: &Session, m: &Matches) -> Outcome {
    let quiet = m.on("quiet");
    let reference = format!("reference={}", m.arg(0));
    let mut filters = m.all("filter");
    if !m.arg(0).is_empty() {
        filters.push(&reference);
    }
    let request = Request::get("/images/json")
        .query_flag("all", m.on("all"))
        .query_some("filters", &values::filters(&filters));
    let Json::Array(images) = session.json(request)? else {
        return Err(Failure::text(
            "unexpected answer from the engine: no list of images",
        ));
    };
    let format = match m.get("format") {
        "" if !quiet => session.config().format("imagesFormat"),
        format => format,
    };
    let mut template = LISTING.template(format, quiet);
    let mut digests = m.on("digests");
    if digests && !quiet && matches!(format, "" | "table") {
        template = WITH_DIGESTS.to_owned();
    } else if digests && template.starts_with("table") && !template.contains("{{.Digest}}") {
        template.push_str("\t{{.Digest}}");
    }
    digests |= template.contains("{{.Digest}}");
    let rows: Vec<Json> = images
        .iter()
        .flat_map(|i| rows(i, digests, !m.on("no-trunc")))
        .collect();
    output::print(&LISTING.render(&template, &rows)?);
    if rows.is_empty() && m.path == "images" && is_image_verb(m.arg(0)) {
        let word = m.arg(0);
        eprintln!(
            "\nNo images found matching \"{word}\": did you mean \"{} image {word}\"?",
            session.program
        );
    }
    Ok(())
}

fn is_image_verb(word: &str) -> bool {
    matches!(
        word,
        "build"
            | "history"
            | "import"
            | "inspect"
            | "list"
            | "load"
            | "ls"
            | "prune"
            | "pull"
            | "push"
            | "rm"
            | "save"
            | "tag"
    )
}

/// An image's rows: one a tag, and one a repository that it is known in by digest alone.
fn rows(image: &Json, digests: bool, trunc: bool) -> Vec<Json> {
    let mut tags: Vec<(String, String)> = Vec::new();
    for tag in image.list("RepoTags") {
        if let Ok(reference) = tag.as_str().parse::<Reference>()
            && let Some(tag) = reference.tag()
        {
            tags.push((reference.familiar_name(), tag.to_owned()));
        }
    }
    let mut by_digest: Vec<(String, String)> = Vec::new();
    for entry in image.list("RepoDigests") {
        if let Ok(reference) = entry.as_str().parse::<Reference>()
            && let Some(digest) = reference.digest()
        {
            by_digest.push((reference.familiar_name(), digest.to_string()));
        }
    }
    let mut out = Vec::new();
    for (name, tag) in &tags {
        let own: Vec<&str> = by_digest
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, d)| d.as_str())
            .collect();
        let own = if digests && !own.is_empty() {
            own
        } else {
            vec!["<none>"]
        };
        out.extend(
            own.into_iter()
                .map(|digest| row(image, [name, tag, digest], trunc)),
        );
    }
    for (name, digest) in by_digest
        .iter()
        .filter(|(n, _)| !tags.iter().any(|(t, _)| t == n))
    {
        out.push(row(
            image,
            [name, "<none>", if digests { digest } else { "" }],
            trunc,
        ));
    }
    if out.is_empty() {
        out.push(row(image, ["<none>", "<none>", "<none>"], trunc));
    }
    out
}

fn row(image: &Json, [repository, tag, digest]: [&str; 3], trunc: bool) -> Json {
    let id = if trunc {
        short_id(image.text("Id"))
    } else {
        image.text("Id")
    };
    let created = image.int("Created");
    let since = units::human_duration(clock::now() - created as f64);
    let (size, shared) = (image.int("Size"), image.int("SharedSize"));
    let containers = match image.int("Containers") {
        -1 => "N/A".to_owned(),
        n => n.to_string(),
    };
    let known = |n: i64, value: i64| {
        if n == -1 {
            "N/A".to_owned()
        } else {
            units::human_size(value as f64)
        }
    };
    listing::row(vec![
        ("ID", id.to_owned()),
        ("Repository", repository.to_owned()),
        ("Tag", tag.to_owned()),
        ("Digest", digest.to_owned()),
        ("CreatedSince", format!("{since} ago")),
        ("CreatedAt", clock::go_string(created)),
        ("Size", units::human_size_precise(size as f64, 3)),
        ("Containers", containers),
        ("SharedSize", known(shared, shared)),
        ("UniqueSize", known(shared, size - shared)),
        ("VirtualSize", units::human_size_precise(size as f64, 3)),
    ])
}

/// The rows of `system df -v`.
pub(crate) fn disk_usage_rows(images: &[Json]) -> Vec<Json> {
    images.iter().flat_map(|i| rows(i, false, true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_a_tag_and_none_for_nothing() {
        let image = |tags: &str, digests: &str| {
            Json::parse(format!(r#"{{"Id":"sha256:0123456789abcdef","RepoTags":{tags},"RepoDigests":{digests},"Created":0,"Size":4261502,"SharedSize":-1,"Containers":-1}}"#).as_bytes())
                .expect("json")
        };
        let digest = format!("sha256:{}", "a".repeat(64));
        let texts = |image: &Json, digests| -> Vec<String> {
            let all = rows(image, digests, true);
            all.iter()
                .map(|r| format!("{} {} {}", r.text("Repository"), r.text("Tag"), r.text("Digest")))
                .collect()
        };
        let both = image(
            r#"["busybox:latest","host:5000/b:1"]"#,
            &format!(r#"["busybox@{digest}"]"#),
        );
        assert_eq!(
            texts(&both, false),
            ["busybox latest <none>", "host:5000/b 1 <none>"]
        );
        assert_eq!(
            texts(&both, true),
            [format!("busybox latest {digest}"), "host:5000/b 1 <none>".into()]
        );
        assert_eq!(texts(&image("[]", "[]"), false), ["<none> <none> <none>"]);
        assert_eq!(
            texts(&image("[]", &format!(r#"["busybox@{digest}"]"#)), false),
            ["busybox <none> "]
        );
        let row = &rows(&both, false, true)[0];
        assert_eq!(
            (row.text("ID"), row.text("Size"), row.text("SharedSize")),
            ("0123456789ab", "4.26MB", "N/A")
        );
    }
}
