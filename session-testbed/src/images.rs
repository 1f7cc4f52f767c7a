//! Which image a server runs from: `images.txt`, or a variable.

use std::env;

use crate::{Error, Result, engine};

/// The only place that names images. `scripts/images` reads it too.
const LIST: &str = include_str!("../images.txt");

/// The image of `server`, by name and tag: that of `SESSION_TEST_<SERVER>_IMAGE`, else that of `images.txt`.
pub(crate) async fn image(server: &str) -> Result<(String, String)> {
    let variable = format!("SESSION_TEST_{}_IMAGE", server.to_uppercase().replace('-', "_"));
    let full = match env::var(&variable) {
        Ok(image) => image,
        Err(_) => present(server).await?,
    };
    // A registry may have a port: the tag is what follows the last colon of the last part.
    match full.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => Ok((name.to_owned(), tag.to_owned())),
        _ => Err(Error::new(format!("{full:?} is no image with a tag"))),
    }
}

async fn present(server: &str) -> Result<String> {
    let image = listed(server)
        .ok_or_else(|| Error::new(format!("session-testbed/images.txt has no line for {server}")))?;
    match engine::has_image(image).await? {
        true => Ok(image.to_owned()),
        false => Err(Error::new(format!(
            "the engine has no image {image}: run scripts/images"
        ))),
    }
}

fn listed(server: &str) -> Option<&'static str> {
    LIST.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == server).then_some(words.nth(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_its_line() {
        for (server, image) in [
            ("redis", "session-testbed/redis:8-debian-2"),
            ("valkey", "session-testbed/valkey:8-debian-2"),
            ("postgres", "session-testbed/postgres:17-debian-2"),
            ("postgres-15", "session-testbed/postgres:15-debian-2"),
            ("memcached", "session-testbed/memcached:1.6-debian-1"),
            ("memcached-old", "session-testbed/memcached:1.6.18-debian-1"),
            ("pgbouncer", "session-testbed/pgbouncer:1-debian-2"),
        ] {
            assert_eq!(listed(server), Some(image));
        }
        assert!(listed("mysql").is_none());
    }
}
