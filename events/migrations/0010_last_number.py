from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0009_holds'),
    ]

    operations = [
        migrations.RenameField(model_name='event', old_name='fence', new_name='last_number'),
        migrations.AlterField(
            model_name='event',
            name='last_number',
            field=models.PositiveBigIntegerField(default=0, editable=False, verbose_name='last number'),
        ),
    ]
