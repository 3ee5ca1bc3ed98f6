"use strict";

const at = (id) => document.getElementById(id);
let ticket = "";

async function call(path, body) {
  const answer = await fetch(`/api/v2/mfa/page/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    credentials: "omit",
  });
  const read = await answer.json();
  if (!answer.ok) throw new Error(read.errorMsg);
  return read;
}

function picture(rows) {
  const svg = (name) => document.createElementNS("http://www.w3.org/2000/svg", name);
  const image = svg("svg");
  const size = rows.length + 8;
  image.setAttribute("viewBox", `0 0 ${size} ${size}`);
  image.setAttribute("role", "img");
  image.setAttribute("aria-label", "QR code of the secret below");
  const path = svg("path");
  const dark = rows.flatMap((row, y) => [...row].map((m, x) => (m === "1" ? `M${x + 4} ${y + 4}h1v1h-1z` : "")));
  path.setAttribute("d", dark.join(""));
  image.append(path);
  return image;
}

function step(form, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    at("error").hidden = true;
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      at("error").textContent = error.message;
      at("error").hidden = false;
    }
    button.disabled = false;
  });
}

step(at("begin"), async () => {
  const shown = await call("begin", { code: at("code").value });
  ticket = shown.ticket;
  at("account").textContent = shown.account;
  at("secret").textContent = shown.secret;
  at("qr").append(picture(shown.qrCode));
  at("begin").hidden = true;
  at("confirm").hidden = false;
  at("token").focus();
});

step(at("confirm"), async () => {
  const passed = await call("confirm", { ticket, token: at("token").value });
  ticket = "";
  at("qr").replaceChildren();
  at("secret").textContent = "";
  for (const code of passed.recoveryCodes) {
    at("recovery").append(Object.assign(document.createElement("li"), { textContent: code }));
  }
  at("confirm").hidden = true;
  at("done").hidden = false;
});

// A browser sends nothing of what stands behind `#`, and it need not stay in the history.
if (location.hash.length > 1) {
  at("code").value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}
