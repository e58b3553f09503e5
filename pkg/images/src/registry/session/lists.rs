//! Lists that registries give: a repository's tags, and what a search finds.

use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, LINK},
};

use super::{
    Session,
    http::{self, Request, Target},
};
use crate::{
    json::{self, object},
    registry::{error::RegistryError, hosts::Endpoint, reach::Reach},
};

/// What a registry found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResult {
    /// The repository, as the registry names it.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many users marked it.
    pub stars: i64,
    /// The registry's own people look after it.
    pub is_official: bool,
    /// It is built by the registry.
    pub is_automated: bool,
}

/// Longest page, in bytes.
const PAGE_MAX: u64 = 4 << 20;
/// Most pages of one list.
const PAGES_MAX: usize = 1000;

#[derive(Default)]
struct Tags {
    tags: Vec<String>,
}
object!(Tags { "tags" => tags });

#[derive(Default)]
struct Found {
    results: Vec<SearchResult>,
}
object!(Found { "results" => results });
object!(SearchResult {
    "name" => name,
    "description" => description,
    "star_count" => stars,
    "is_official" => is_official,
    "is_automated" => is_automated,
});

impl Session {
    /// Tags of the repository, at most `most` (distribution-spec, "Listing Tags").
    pub(crate) async fn tags(&self, endpoint: &Endpoint, most: usize) -> Result<Vec<String>, RegistryError> {
        let mut tags: Vec<String> = Vec::new();
        let mut path = "tags/list".to_owned();
        for _ in 0..PAGES_MAX {
            let request = Request { target: Target::Path(&path), accept: None, offset: 0, head: false };
            let mut response = self.get(endpoint, request).await?;
            let link = response.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(last_of);
            let page = http::body(&mut response, PAGE_MAX, self.config.progress_timeout).await?;
            let Tags { tags: more } = json::read_first(&page).map_err(RegistryError::Malformed)?;
            let is_empty = more.is_empty();
            tags.extend(more);
            match link {
                Some(last) if tags.len() < most && !is_empty => path = format!("tags/list?{last}"),
                _ => break,
            }
        }
        tags.truncate(most);
        Ok(tags)
    }

    /// What the registry finds for `term` (Docker Registry API v1, "Search").
    pub(crate) async fn search(
        &self,
        endpoint: &Endpoint,
        term: &str,
        most: u32,
    ) -> Result<Vec<SearchResult>, RegistryError> {
        let mut url = endpoint.base.clone();
        url.set_path("/v1/search");
        // Docker Hub's registry cannot search; its index can.
        if url.host_str() == Some("registry-1.docker.io") {
            let set = url.set_host(Some("index.docker.io"));
            set.map_err(|error| RegistryError::Connect(error.to_string()))?;
        }
        url.query_pairs_mut().append_pair("q", term).append_pair("n", &most.to_string());
        let authorization = self.authorization(endpoint);
        let build = |client: &Client, url: Url, _: bool| {
            let is_home = url.origin() == endpoint.base.origin();
            let builder = client.get(url);
            match authorization.clone().filter(|_| is_home) {
                Some(value) => builder.header(AUTHORIZATION, value),
                None => builder,
            }
        };
        let answered = self.follow(endpoint, url, Reach::Outside, build).await?;
        let mut response = self.accepted(answered.response).await.map_err(|(error, _)| error)?;
        let page = http::body(&mut response, PAGE_MAX, self.config.progress_timeout).await?;
        let Found { mut results } = json::read_first(&page).map_err(RegistryError::Malformed)?;
        results.truncate(most as usize);
        Ok(results)
    }
}

/// The query of the next page, of `</v2/name/tags/list?last=x&n=10>; rel="next"`. Of the address only that counts: a registry leads to no
/// other.
fn last_of(link: &str) -> Option<String> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.split(';').any(|parameter| {
        let parameter: String = parameter.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
        parameter.eq_ignore_ascii_case("rel=next")
    });
    let (_, query) = address.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    (is_next && !query.is_empty()).then(|| query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_query_of_the_next_page_is_taken_of_a_link() {
        for (link, query) in [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("last=x&n=2")),
            (r#"<https://evil.example/v2/a/tags/list?last=y#z>; rel=next"#, Some("last=y")),
            (r#"</v2/a/tags/list?last=x>; rel="prev""#, None),
            (r#"</v2/a/tags/list>; rel="next""#, None),
            ("nonsense", None),
            ("<", None),
        ] {
            assert_eq!(last_of(link).as_deref(), query, "{link}");
        }
    }
}
