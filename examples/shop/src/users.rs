//! Who may log in: three users whose passwords everybody knows, checked as if nobody did.

use argon2::{
    Argon2,
    password_hash::{PasswordVerifier, phc::PasswordHash},
};
use session_core::{InvalidSubject, Subject};
use tokio::{sync::Semaphore, task};

/// Characters of a password that are looked at: a longer one is wrong. Hashing is work, so its input is bounded.
const LONGEST_PASSWORD: usize = 256;

/// Passwords that are checked at once. Each takes 19 MiB and a core; others wait.
static CHECKS: Semaphore = Semaphore::const_new(4);

/// Somebody who may log in.
#[derive(Debug)]
pub(crate) struct User {
    /// What to type as the name, and the subject of the user's sessions.
    pub(crate) login: &'static str,
    /// The name on the pages.
    pub(crate) name: &'static str,
    /// The password, shown on the login page. A shop that is not an example has only the hash.
    pub(crate) password: &'static str,
    /// The password's Argon2id hash: 19 MiB, 2 passes (OWASP Password Storage Cheat Sheet).
    hash: &'static str,
}

/// Everybody who may log in.
pub(crate) static USERS: [User; 3] = [
    User {
        login: "ada",
        name: "Ada",
        password: "analytical engine",
        hash: "$argon2id$v=19$m=19456,t=2,p=1$UM3bAHfvi30R+4QzGmOrBQ$ESyAq+G0773a7kh2P2PM74FO5AVUVR4BFRbWjvjKto4",
    },
    User {
        login: "grace",
        name: "Grace",
        password: "first compiler",
        hash: "$argon2id$v=19$m=19456,t=2,p=1$DNDl7MFjpjTSJuvopXB3YQ$0/ey1BmyXwZZ0Gsu5A3btIGrJq4o5ZRTVNmI9nxp7xw",
    },
    User {
        login: "zoe",
        name: "Zoë",
        password: "blue balloon",
        hash: "$argon2id$v=19$m=19456,t=2,p=1$jTKPw/T1UTSmmbO/Y9cqmg$yATQXg7WSAJUZDeywYFoyZ+WsD95u4b/eAZgAcWxKj4",
    },
];

/// The hash of a password that is nobody's. A name that is nobody's is checked against it, so that the work, and with
/// it the time, does not tell which names exist.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$QpFLtc77LppVi1fsWluCQw$U2tradoOKwC0e1HeCinSazOBXupl6ju9zL6XezrLYoQ";

impl User {
    /// Whom the user's sessions belong to.
    ///
    /// # Errors
    ///
    /// [`InvalidSubject`] if the name is no subject; none of [`USERS`] is such.
    pub(crate) fn subject(&self) -> Result<Subject, InvalidSubject> {
        Subject::new(self.login)
    }

    /// The user whom a session belongs to, if the shop knows the subject.
    pub(crate) fn of(subject: &Subject) -> Option<&'static Self> {
        USERS.iter().find(|user| user.login == subject.as_str())
    }
}

/// The user of that name and password. One password is hashed whatever the answer, off the threads that serve
/// requests.
pub(crate) async fn check(login: &str, password: String) -> Option<&'static User> {
    let user = USERS.iter().find(|user| user.login == login.trim());
    let hash = user.map_or(NOBODY, |user| user.hash);
    let _permit = CHECKS.acquire().await.ok()?;
    let right = task::spawn_blocking(move || is_right(&password, hash))
        .await
        .ok()?;
    user.filter(|_| right)
}

fn is_right(password: &str, hash: &str) -> bool {
    let too_long = password.len() > LONGEST_PASSWORD;
    let password = if too_long { "" } else { password };
    let right = PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    });
    right && !too_long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_user_logs_in_with_the_password_on_the_page_and_no_other() {
        for user in &USERS {
            let found = check(user.login, user.password.to_owned()).await.unwrap();
            assert_eq!(found.login, user.login);
            assert!(check(user.login, "blue ballooN".to_owned()).await.is_none());
            assert!(check(user.login, String::new()).await.is_none());
            assert_eq!(User::of(&user.subject().unwrap()).unwrap().login, user.login);
        }
    }

    #[tokio::test]
    async fn nobody_logs_in() {
        let password = "nobody's password, and long";
        assert!(is_right(password, NOBODY), "the hash is one, so the work is done");
        assert!(check("nobody", password.to_owned()).await.is_none());
        assert!(check("", password.to_owned()).await.is_none());
        assert!(check("ada", "x".repeat(LONGEST_PASSWORD + 1)).await.is_none());
    }
}
