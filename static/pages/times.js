// Moments in the visitor's own time zone. The page has them in the server's, with its zone: where the clocks of the two
// differ, the text is written anew.

// As the server writes them, of whom the browser knows no such form by one name.
const FORMS = {
  ko: { locale: "ko", dateStyle: "long", between: " " },
  en: { locale: "en-GB", dateStyle: "medium", between: ", " },
};
const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" };

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
  const { locale, dateStyle, between } = FORMS[language];
  const parts = [new Intl.DateTimeFormat(locale, { dateStyle }).format(moment)];
  const second = time.dataset.to === "second" ? { second: "2-digit" } : {};
  if (time.dataset.to !== "day") parts.push(new Intl.DateTimeFormat("en-GB", { ...CLOCK, ...second }).format(moment));
  time.title = time.textContent;
  time.textContent = parts.join(between);
}

for (const time of document.querySelectorAll("time[data-to]")) localise(time);
