//! Projected ServiceAccount volumes, written like kubelet's.

use std::{fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;

use crate::testing::{cluster::Cluster, error::ClusterError, objects::text};

/// Projected volumes.
impl Cluster {
    /// Writes `token`, `ca.crt` and `namespace` into `folder` as kubelet does: the files are in a
    /// folder with a timestamp in its name, `..data` is a symbolic link to it, and the file names
    /// are links through `..data`.
    ///
    /// A further call on the same folder refreshes it as kubelet does: it writes a new timestamped
    /// folder and swaps `..data` atomically, so that readers never see a partial update. It blocks
    /// on file I/O.
    ///
    /// ```
    /// use tower_kube_auth::testing::Cluster;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("volume-{}", std::process::id()));
    /// let cluster = Cluster::start().await?;
    /// cluster.create_service_account("team-a", "robot");
    /// let token = cluster.token("team-a", "robot").issue()?;
    /// cluster.write_projected_volume(&folder, &token)?;
    /// assert_eq!(std::fs::read_to_string(folder.join("token"))?, token);
    /// assert_eq!(std::fs::read_to_string(folder.join("namespace"))?, "team-a");
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the folder cannot be written.
    #[cfg(unix)]
    pub fn write_projected_volume(&self, folder: &Path, token: &str) -> Result<(), ClusterError> {
        let namespace = namespace_of(token).unwrap_or_else(|| "default".to_owned());
        let files =
            [("ca.crt", self.ca_pem()), ("namespace", namespace.as_str()), ("token", token)];
        // kubelet uses nanoseconds; two updates at one time of a manual clock must differ too.
        let timestamp = jiff::Timestamp::try_from(self.state.clock.wall()).unwrap_or_default();
        let unique = crate::testing::objects::random_uuid();
        let name = format!(
            "..{}.{}",
            timestamp.strftime("%Y_%m_%d_%H_%M_%S"),
            unique.get(..9).unwrap_or_default()
        );
        swap(folder, &name, &files).map_err(|error| {
            ClusterError::new(format!("cannot write the volume {}", folder.display()), error)
        })
    }
}

#[cfg(unix)]
fn swap(folder: &Path, name: &str, files: &[(&str, &str)]) -> io::Result<()> {
    use std::os::unix::fs::symlink;

    fs::create_dir_all(folder.join(name))?;
    for (file, content) in files {
        fs::write(folder.join(name).join(file), content)?;
    }
    let data = folder.join("..data");
    let old = fs::read_link(&data).ok();
    let next = folder.join("..data_tmp");
    symlink(name, &next)?;
    fs::rename(&next, &data)?;
    for (file, _) in files {
        match symlink(Path::new("..data").join(file), folder.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    match old {
        Some(old) => fs::remove_dir_all(folder.join(old)),
        None => Ok(()),
    }
}

/// Returns the namespace of the token's ServiceAccount.
fn namespace_of(token: &str) -> Option<String> {
    let claims = BASE64URL.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let subject = text(&claims, "/sub").strip_prefix("system:serviceaccount:")?;
    subject.split_once(':').map(|(namespace, _)| namespace.to_owned())
}
