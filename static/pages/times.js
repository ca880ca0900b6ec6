// Moments in the visitor's own time zone. The page has them in the server's, with its zone: where the clocks of the two
// differ, the text is written anew.

const PARTS = {
  day: { dateStyle: "medium" },
  minute: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
  second: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" },
};

/** The visitor's language, as the page has it. */
export const language = document.documentElement.lang;

/** A number as it is written in that language. */
export const spellNumber = (number) => number.toLocaleString(language);

/** Whether a moment has another hour on the server's clock than on the visitor's. */
function differs(moment, written) {
  const zone = /([+-])(\d\d):(\d\d)$/.exec(written);
  if (!zone) return false;
  const minutes = (Number(zone[2]) * 60 + Number(zone[3])) * (zone[1] === "-" ? -1 : 1);
  return minutes !== -moment.getTimezoneOffset();
}

function localise(time) {
  const moment = new Date(time.dateTime);
  if (!differs(moment, time.dateTime)) return;
  const { to } = time.dataset;
  const zone = to === "day" ? {} : { timeZoneName: "short", hourCycle: "h23" };
  time.title = time.textContent;
  time.textContent = new Intl.DateTimeFormat(language, { ...PARTS[to], ...zone }).format(moment);
}

for (const time of document.querySelectorAll("time[data-to]")) localise(time);
