// The login page: one field, no password, and a warning that nobody can overlook.

export function loginPage({ action, clientId, suggestion, refused }) {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Test login</title></head><body>
<p><strong>TEST IDENTITY PROVIDER: it asks for no password. Never let a real system trust it.</strong></p>
<h1>Log in to ${escape(clientId)}</h1>${refused ? '<p role="alert">No such user.</p>' : ''}
<form method="post" action="${escape(action)}">
<label>User name <input type="text" name="user" value="${escape(suggestion)}" autofocus autocomplete="off"></label>
<button>Log in</button></form></body></html>`;
}

function escape(text) {
  return String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
