// The journal of durable topics: the time of its commits, its files, and the space that is left.

import { html } from "./preact.js";
import { bytes, count, milliseconds } from "./formats.js";
import { Card, Curl, Empty, Facts, Outcome } from "./parts.js";
import { usePolling } from "./polling.js";

export function Storage() {
  const asked = usePolling("admin/storage", 5);
  const storage = asked.value;
  if (!storage) return html`<${Outcome} of=${asked} noun="the storage" />`;
  const { commits, files, free_bytes: free } = storage;
  return html`
    <p class=${`health ${storage.failure ? "bad" : "good"}`} role="status"><span class="dot" aria-hidden="true"></span>
      ${storage.failure ? `Messages cannot be stored: ${storage.failure}` : commits ? "Everything is stored." : "There is no journal: no topic was ever durable."}</p>
    <div class="grid three">
      <${Card} title="Topics"><${Facts} of=${[["Durable", count(storage.durable_topics)], ["In memory", count(storage.memory_topics)]]} /><//>
      <${Card} title="Commits" note="since the start">
        ${commits ? html`<${Facts} of=${[["Commits", count(commits.count)], ["p50", milliseconds(commits.p50_ms)], ["p99", milliseconds(commits.p99_ms)], ["Mean", milliseconds(commits.mean_ms)], ["Failed", count(commits.failures)], ["Waiting", bytes(storage.waiting_bytes)]]} />` : html`<${Empty}>None.<//>`}
      <//>
      <${Card} title="Disk" note="the write-ahead log ends in -wal">
        ${Object.keys(files).length ? html`<${Facts} of=${[...Object.entries(files).map(([name, size]) => [name, bytes(size)]), ["Left on the disk", bytes(free)]]} />` : html`<${Empty}>Nothing is on disk here.<//>`}
      <//>
    </div>
    <footer class="foot"><${Curl} path="admin/storage" /></footer>`;
}
