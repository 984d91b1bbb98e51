// Events of the server, resumed after every cut. EventSource connects again by itself, with the ID of the last event, and
// the server goes on behind that; it gives up after a response that is no stream, and then this does it.
const pause = 2000;

export function listen(path, { message, gap }) {
  let last = "";
  const connect = () => {
    const source = new EventSource(path + (last && "?lastEventId=" + encodeURIComponent(last)));
    source.onmessage = e => {
      last = e.lastEventId;
      message(JSON.parse(e.data));
    };
    source.addEventListener("gap", gap); // events may be missing: look at the whole
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(connect, pause);
    };
  };
  connect();
}
