//! A real nginx on loopback, with and without TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::port::free;
use bz_examples::needs;

/// Far above what it needs to start.
const DEADLINE: Duration = Duration::from_secs(30);

/// It runs until this is dropped.
pub(crate) struct Nginx {
    child: Child,
    /// Where it speaks no TLS.
    pub(crate) plain: SocketAddr,
    /// Where it does, and HTTP/2.
    pub(crate) tls: SocketAddr,
    /// What it serves below `/files/`.
    pub(crate) files: PathBuf,
}

impl Nginx {
    /// One with this certificate and its key, when there is an nginx here.
    pub(crate) async fn start(folder: &Path, (certificate, key): (&Path, &Path)) -> Option<Self> {
        if !needs::program("nginx") {
            return None;
        }
        let files = folder.join("files");
        std::fs::create_dir_all(&files).unwrap();
        let (plain, tls) = (free(), free());
        let settings = settings(folder, (plain, tls), (certificate, key));
        let path = folder.join("nginx.conf");
        std::fs::write(&path, settings).unwrap();
        let mut command = Command::new(needs::find("nginx").unwrap());
        command.arg("-p").arg(folder).arg("-c").arg(&path).arg("-e").arg(folder.join("nginx-error.log"));
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let nginx = Self { child, plain, tls, files };
        for address in [plain, tls] {
            let up = async { while tokio::net::TcpStream::connect(address).await.is_err() {} };
            let up = tokio::time::timeout(DEADLINE, up).await;
            up.unwrap_or_else(|_| {
                panic!("nginx does not start: {:?}", std::fs::read_to_string(folder.join("nginx-error.log")))
            });
        }
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only when it is asked to end them.
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        asked.and_then(|_| self.child.wait()).map(drop).unwrap_or_default();
    }
}

fn settings(folder: &Path, (plain, tls): (SocketAddr, SocketAddr), (certificate, key): (&Path, &Path)) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let root = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r#"
daemon off; worker_processes 1; pid {pid}; error_log {errors}; {root}
events {{}}
http {{
    access_log off; client_body_temp_path {temp}; proxy_temp_path {temp}; fastcgi_temp_path {temp};
    uwsgi_temp_path {temp}; scgi_temp_path {temp}; client_max_body_size 0; absolute_redirect on;
    server {{
        listen {plain};
        listen {tls} ssl http2;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        default_type text/plain;
        location / {{
            return 200 "$request_method $scheme $server_protocol $http_host $request_uri origin=$http_origin referer=$http_referer for=$http_x_forwarded_for cookie=$http_cookie\n";
        }}
        location = /moved {{ return 302 $scheme://$http_host/there; }}
        location = /elsewhere {{ return 302 https://idp.example/login; }}
        location = /cookies {{
            add_header Set-Cookie "__Host-sid=one; Secure; Path=/; HttpOnly";
            add_header Set-Cookie "wide=two; Domain=127.0.0.1; Secure; SameSite=None";
            return 200 "cookie=$http_cookie\n";
        }}
        location = /hsts {{ add_header Strict-Transport-Security "max-age=1"; return 204; }}
        location /files/ {{ alias {files}/; dav_methods PUT DELETE; }}
    }}
}}
"#,
        pid = at("nginx.pid"),
        errors = at("nginx-error.log"),
        temp = at("nginx-temp"),
        files = at("files"),
        certificate = certificate.display(),
        key = key.display(),
    )
}
