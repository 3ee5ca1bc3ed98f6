// What the provider keeps, in memory. One map for every provider of this process, so that grants and refresh tokens
// outlive the provider object that a key rotation replaces. Bounded: the oldest record goes first.

const MAX_RECORDS = 10_000;
const records = new Map();

export class Store {
  #model;

  constructor(model) {
    this.#model = model;
  }

  #key(id) {
    return `${this.#model}:${id}`;
  }

  #first(matches) {
    for (const [key, record] of records) {
      if (key.startsWith(`${this.#model}:`) && matches(record.payload)) return this.#living(key);
    }
    return undefined;
  }

  #living(key) {
    const record = records.get(key);
    if (record && record.until <= Date.now()) records.delete(key);
    return records.get(key)?.payload;
  }

  async upsert(id, payload, expiresIn) {
    const key = this.#key(id);
    if (!records.has(key) && records.size >= MAX_RECORDS) records.delete(records.keys().next().value);
    records.set(key, { payload, until: expiresIn ? Date.now() + expiresIn * 1000 : Infinity });
  }

  async find(id) {
    return this.#living(this.#key(id));
  }

  async findByUid(uid) {
    return this.#first((payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.#first((payload) => payload.userCode === userCode);
  }

  async consume(id) {
    const payload = this.#living(this.#key(id));
    if (payload) payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    records.delete(this.#key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of records) {
      if (payload.grantId === grantId) records.delete(key);
    }
  }
}
