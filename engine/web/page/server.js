// The daemon, as this page sees it: it is asked, answers or does not, and its clock may differ.

const answerLimitMs = 5000;
const silenceMaxMs = 30_000;

export class Refused extends Error {}
export class Silent extends Error {}

export class Server {
  #skewMs = 0;
  #failures = 0;

  /// The answer's JSON. Throws Refused if the daemon says no, Silent if it says nothing.
  async get(path) {
    let response;
    let answer;
    try {
      response = await fetch(path, {cache: 'no-store', signal: AbortSignal.timeout(answerLimitMs)});
      answer = await response.json();
    } catch (error) {
      throw new Silent(error.message);
    }
    this.#failures = 0;
    this.#compareClocks(response.headers.get('Date'));
    if (response.ok) return answer;
    throw new Refused(answer.error?.message ?? response.statusText);
  }

  /// How long to wait after an answer that did not come: twice as long each time.
  silence() {
    return Math.min(1000 * 2 ** this.#failures++, silenceMaxMs);
  }

  /// The daemon's time, in seconds.
  now() {
    return (Date.now() + this.#skewMs) / 1000;
  }

  #compareClocks(date) {
    const skew = Date.parse(date) - Date.now();
    // The header has whole seconds.
    this.#skewMs = Math.abs(skew) > 2000 ? skew : 0;
  }
}
